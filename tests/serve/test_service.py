"""`allmlp serve` from outside: a real process, real sockets."""

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from allmlp.backends import load_predictor
from allmlp.preprocess import fit

PNG = {"content-type": "image/png"}


def png(seed: int = 0, side: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def expected(model_file: Path, images: list[bytes]) -> np.ndarray:
    predictor = load_predictor(model_file)
    pixels = [fit(np.array(Image.open(io.BytesIO(image))), predictor.preprocess) for image in images]
    logits = predictor(np.stack(pixels)).astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_one_image_as_the_body(service, model_file: Path) -> None:
    answer = service.client.post("/predict?top=10", content=png(side=20), headers=PNG)
    assert answer.status_code == 200
    (prediction,) = answer.json()["predictions"]
    found = {entry["class"]: entry["probability"] for entry in prediction["top"]}
    wanted = expected(model_file, [png(side=20)])[0]
    assert found == pytest.approx({f"class {k}": wanted[k] for k in range(10)}, abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert answer.json()["model"]["name"] == "small"


def test_several_images_of_a_form_are_answered_in_order(service, model_file: Path) -> None:
    images = [png(seed) for seed in range(3)]
    files = [("file", (f"{k}.png", image, "image/png")) for k, image in enumerate(images)]
    answer = service.client.post("/predict?top=1", files=files, data={"note": "a field that is no file"})
    assert answer.status_code == 200
    wanted = expected(model_file, images)
    assert [p["name"] for p in answer.json()["predictions"]] == ["0.png", "1.png", "2.png"]
    assert [p["class"] for p in answer.json()["predictions"]] == [f"class {k}" for k in wanted.argmax(1)]


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 black pixels in some hundred kB."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (60_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    data = zlib.compress(bytes(60_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


FORM = {"content-type": "multipart/form-data; boundary=x"}
WRONG = {
    "no body": (b"", PNG, 422, "no_image"),
    "text": (b"hello", PNG, 422, "bad_image"),
    "a truncated file": (png(side=40)[:200], PNG, 422, "bad_image"),
    "a decompression bomb": (bomb(), PNG, 422, "bad_image"),
    "another content type": (png(), {"content-type": "application/json"}, 415, "content_type"),
    "no content type": (png(), {}, 415, "content_type"),
    "too large": (bytes(1_000_001), PNG, 413, "too_large"),
    "a form without a boundary": (b"--x", {"content-type": "multipart/form-data"}, 400, "bad_form"),
    "a form that ends early": (b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nabc', FORM, 400,
                               "bad_form"),
    "a form that is none": (b"nonsense", FORM, 400, "bad_form"),
    "a form without a file": (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nabc\r\n--x--\r\n', FORM, 422,
                              "no_image"),
    "a page of another host": (png(), {**PNG, "origin": "http://elsewhere.example"}, 403, "origin"),
    "a packed body": (zlib.compress(png()), {**PNG, "content-encoding": "deflate"}, 415, "content_encoding"),
    "an origin that is none": (png(), {**PNG, "origin": "http://[::1"}, 403, "origin"),
    "another name before the right one": (png(), {**PNG, "host": "elsewhere.example@localhost"}, 421, "host"),
    "another name": (png(), {**PNG, "host": "elsewhere.example"}, 421, "host"),
}


@pytest.mark.parametrize("content,headers,status,code", WRONG.values(), ids=WRONG)
def test_wrong_requests_get_the_right_status_and_one_line(
    service, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = service.client.post("/predict", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "\n" not in answer.json()["error"]["message"]
    assert service.client.post("/predict", content=png(), headers=PNG).status_code == 200  # as if nothing had been


def test_more_images_than_allowed_and_a_bad_one_among_good_ones(service) -> None:
    five = [("file", (f"{k}.png", png(k))) for k in range(5)]
    assert service.client.post("/predict", files=five).status_code == 413
    mixed = [("file", ("good.png", png())), ("file", ("bad.png", b"hello"))]
    answer = service.client.post("/predict", files=mixed)
    assert answer.status_code == 422
    assert "bad.png" in answer.json()["error"]["message"]
    assert "good.png" not in answer.json()["error"]["message"]


@pytest.mark.parametrize("top", ["0", "11", "x", "-1", "", "9" * 5000, "²"])
def test_top_is_a_number_of_classes(service, top: str) -> None:
    answer = service.client.post("/predict", params={"top": top}, content=png(), headers=PNG)
    assert answer.json()["error"]["code"] == "top"
    assert answer.status_code == 422


def test_a_body_without_a_length_is_counted_as_it_comes(service) -> None:
    def parts():
        for _ in range(30):
            yield bytes(100_000)

    assert service.client.post("/predict", content=parts(), headers=PNG).status_code == 413
    assert service.client.post("/predict", content=iter([png()[:50], png()[50:]]), headers=PNG).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/predict/", "/static/../x"])
def test_other_paths_are_not_there(service, path: str) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


def test_images_for_a_path_with_a_slash_too_many_are_told_where_to_go(service) -> None:
    answer = service.client.post("/predict/", content=png(), headers=PNG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "POST /predict," in answer.json()["error"]["message"]


def test_a_wrong_method_says_which_is_right(service) -> None:
    answer = service.client.get("/predict")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metadata", "/metrics", "/openapi.json"])
def test_head_answers_as_get_without_the_body(service, path: str) -> None:
    answer = service.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    refused = service.client.post(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_two_host_headers_are_refused(service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET /metadata HTTP/1.1\r\nHost: elsewhere.example\r\nHost: localhost\r\n"
                           b"Connection: close\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", [b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET /metadata HTTP/1.1\r\nHost localhost\r\n\r\n",
                                  b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
                         ids=["text", "no path", "a broken header", "bytes in the path", "TLS"])  # fmt: skip
def test_what_is_no_http_is_refused_like_everything_else(service, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(sent)
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"content-length: {len(body)}" in head.decode().lower().split("\r\n")
    error = json.loads(body)["error"]
    assert error["code"] == "bad_request"
    assert "\n" not in error["message"]
    assert service.client.get("/healthz").status_code == 200


def test_a_file_name_beyond_ascii_in_its_older_form(service) -> None:
    """As some clients send it (RFC 5987)."""
    body = (b"--x\r\nContent-Disposition: form-data; name=\"a\"; filename*=utf-8''%e2%82%ac.png\r\n\r\n" + png()
            + b"\r\n--x--\r\n")
    answer = service.client.post("/predict", content=body, headers=FORM)
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["name"] == "\u20ac.png"


def test_what_watches_the_service_finds_what_it_looks_for(service) -> None:
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {"status": "ready"}
    metadata = service.client.get("/metadata").json()
    assert metadata["preprocess"]["image_size"] == [8, 8]
    assert metadata["classes"][3] == "class 3"
    before = _count(service, 'allmlp_requests_total{path="/healthz",status="200"}')
    service.client.get("/healthz")
    assert _count(service, 'allmlp_requests_total{path="/healthz",status="200"}') == before + 1
    assert _count(service, "allmlp_waiting_images") == 0
    assert _count(service, "allmlp_bodies_bytes") == 0


def _count(service, name: str) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def test_slow_senders_are_let_go_and_endless_headers_and_crowds_refused_and_counted(model_file: Path) -> None:
    """In this process, for limits that the command line does not have; the clock is the service's own."""
    import uvicorn

    from allmlp.serve.app import create_app
    from allmlp.serve.limits import Limits
    from allmlp.serve.run import listen, serve

    limits = Limits(head_seconds=0.4, receive_seconds=0.4, max_requests=1)  # and so 102 connections
    said: list[dict[str, Any]] = []
    app = create_app(load_predictor(model_file), {"name": "small"}, limits, log=said.append)
    listening, ready, servers = listen("127.0.0.1", 0), threading.Event(), []
    start = uvicorn.Server.__init__

    def remember(self, config):
        start(self, config)
        servers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "__init__", remember)
        thread = threading.Thread(target=serve, args=(app, listening, limits, ready.set))
        thread.start()
        assert ready.wait(20)
    address, answer = listening.getsockname(), b""
    try:
        for sent, answered in {
            b"": b"",
            b"POST /predict HTTP/1.1\r\nHost: a\r\n": b"",
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nabc": b"408",
            b"hello\r\n\r\n": b"400",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000: b"431",
        }.items():
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(sent)
                try:
                    answer = b"".join(iter(lambda: connection.recv(65_536), b""))
                except ConnectionError:
                    answer = b""
            assert answer.split(b" ")[1:2] == ([answered] if answered else []), sent[:60]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "head"
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(102)]
            crowd[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            head, _, body = b"".join(iter(lambda: crowd[-1].recv(65_536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head
        assert json.loads(body)["error"]["code"] == "busy"
    finally:
        servers[0].should_exit = True
        thread.join(20)
    assert not thread.is_alive()
    for path, status in (("other", 400), ("other", 431), ("/healthz", 503)):
        assert [(line["path"], line["status"]) for line in said].count((path, status)) == 1
        assert f'allmlp_requests_total{{path="{path}",status="{status}"}} 1.0' in app.metrics.text().decode()


def test_clients_that_go_away_leave_nothing_behind(service) -> None:
    head = (f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            f"Content-Length: {len(png())}\r\n\r\n")
    for number in range(30):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall((head.encode() + png())[: None if number % 2 else -5])
    deadline = time.monotonic() + 10
    while (_count(service, "allmlp_waiting_images"), _count(service, "allmlp_bodies_bytes")) != (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert service.client.post("/predict", content=png(), headers=PNG).status_code == 200


def test_a_key_is_asked_for_where_there_is_one_and_json_says_where_it_is(start, model_file: Path) -> None:
    running = start("--json", ALLMLP_API_KEY="secret")
    assert json.loads(running.line) == {"model": str(model_file), "predict": f"{running.address}/predict", "page": None}
    for headers in ({}, {"x-api-key": "secre"}, {"authorization": "Bearer secrets"}):
        assert running.client.get("/metadata", headers=headers).status_code == 401
    for headers in ({"x-api-key": "secret"}, {"authorization": "Bearer secret"}):
        assert running.client.get("/metadata", headers=headers).status_code == 200
    assert running.client.get("/healthz").status_code == 200
    assert "secret" not in running.end()


def test_sigterm_finishes_what_was_taken_and_a_restart_serves_again(start) -> None:
    running = start()
    answers: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=running.address, timeout=30) as client:
            while True:
                try:
                    answers.append(client.post("/predict", content=png(), headers=PNG).status_code)
                except httpx.ConnectError:
                    return
                except httpx.TransportError:  # a connection that was idle when the service ended
                    return

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    while len(answers) < 40:
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    for asker in askers:
        asker.join(30)
    log = running.end()
    assert running.process.returncode in (0, -signal.SIGTERM)
    assert set(answers) <= {200, 503}
    assert "Traceback" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "status", "ms"} <= line.keys() for line in lines)
    assert start().client.post("/predict", content=png(), headers=PNG).status_code == 200


MISTAKES = {
    "a port in use": (["--port", "{port}"], "cannot listen there"),
    "no port": (["--port", "70000"], "from 0 (any free one) to 65535"),
    "no name": (["--port", "0", "--host", "a..b"], "--host a..b: no address or known name"),
    "another machine's address": (["--host", "192.0.2.1"], "cannot listen there"),
    "no model": (["--port", "0"], "no such file"),
    "an empty key": (["--port", "0", "--api-key-file", "/dev/null"], "is empty"),
    "no budget": (["--port", "0", "--latency-budget-ms", "-5"], "greater than 0"),
}


@pytest.mark.parametrize("options,says", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    service, model_file: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from allmlp.cli import main

    model = "/nowhere.safetensors" if says == "no such file" else str(model_file)
    assert main(["serve", model, *(option.format(port=service.port) for option in options)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "allmlp", "serve", "--help"], capture_output=True,
                          text=True, check=True)
    assert not re.search(r"\| +(torch|fastapi|uvicorn)$", done.stderr, re.MULTILINE)
