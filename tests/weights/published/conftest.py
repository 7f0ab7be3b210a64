"""A web server on this machine in the place of the network, and weights in exactly the published formats."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest


class Site:
    """A web server on this machine that stands for the network, and for the Hugging Face Hub.

    `files`: what is at each path. `answers`: JSON for (method, path) of the Hub's interface. `break_off_after`: so many
    bytes of a body, then the connection is closed. `ranges`: whether a part of a file may be asked for.
    """

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.answers: dict[tuple[str, str], object] = {}
        self.break_off_after: int | None = None
        self.ranges = True
        self.requests: list[tuple[str, str, str | None, bytes]] = []  # method, path, Range, body

    def add(self, path: str, content: bytes) -> str:
        """Put a file at `path`; returns its address."""
        self.files[path] = content
        return self.address + path


class Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, wanted = self.path.partition("?")[0], self.headers.get("Range")
        self.site.requests.append((self.command, path, wanted, body))
        answer = self.site.answers.get((self.command, path))
        if answer is not None:
            return self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        content = self.site.files.get(path)
        if content is None:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": "0" * 40}
        if not wanted or not self.site.ranges:
            return self.reply(200, content, headers)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.reply(206, content[start:], headers)

    do_HEAD = do_POST = do_GET

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if self.site.break_off_after is None else body[: self.site.break_off_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    handler = type("SiteHandler", (Handler,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler.site
        server.shutdown()
        thread.join()


@pytest.fixture
def hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The Hub's client asks the server, and keeps its cache in the test's folder."""
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return site


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("ALLMLP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "home"
