"""What every request passes first and last: who may come in; then the count, the clock and the line in the log.

A page of another host that a person has open must not use a service on that person's machine: neither by a name that
it has pointed there (the Host header is checked), nor by a form sent across (the Origin header is checked). Answers
carry no permission to be read across origins.
"""

import hmac
import json
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allmlp.serve.metrics import Metrics
from allmlp.serve.refusal import Refusal

OPEN = frozenset({"/healthz", "/readyz"})  # need no key: those who start and watch services have none
GET, POST = ("GET", "HEAD"), ("POST",)
OTHER = "other"  # a path than the service's own: few, or every path that anybody tries would be counted
KEEP_NOTHING = [(b"cache-control", b"no-store")]  # of answers; the files of the page may be kept
Log = Callable[[dict[str, Any]], None]


def to_stderr(line: dict[str, Any]) -> None:
    """One JSON object a line."""
    sys.stderr.write(json.dumps(line) + "\n")


def new_name() -> str:
    """What a request is called in the log and in its answer."""
    return uuid.uuid4().hex[:16]


def silent(line: dict[str, Any]) -> None:
    pass


class Door:
    """ASGI around `app`. `hosts`: names by which the service may be called (None: any); `key`: what clients must show
    as `Authorization: Bearer KEY` or `X-API-Key: KEY` (None: nothing). Of more than `max_requests` at once the last are
    refused, for now; so is a request whose `scope["state"]` has a "refusal" from the server."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Collection[str] | None = None, key: str | None = None,
                 log: Log = silent, max_requests: int = 1000):
        self.app, self.metrics, self.hosts, self.log = app, metrics, hosts, log
        self.under_way, self.max_requests = 0, max_requests
        self.key = key.encode() if key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, sent = time.perf_counter(), 500, 0
        served = scope["path"] in self.metrics.PATHS
        name = new_name()
        scope.setdefault("state", {})["request"] = about = {}

        async def count(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff"),
                                      *(KEEP_NOTHING if served else ()), (b"x-request-id", name.encode())]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self.under_way += 1
        try:
            refusal = scope["state"].get("refusal") or self._refusal(scope)
            if refusal is None:
                # The server leaves out the body of an answer to HEAD.
                asked = {**scope, "method": "GET"} if served and scope["method"] == "HEAD" else scope
                await self.app(asked, receive, count)
            else:
                await JSONResponse(refusal.content, refusal.status, refusal.headers)(scope, receive, count)
        finally:
            self.under_way -= 1
            path = scope["path"] if served else OTHER
            self._note(name, scope["method"], path, status, time.perf_counter() - started, sent, about)

    def note_unread(self, name: str, status: int, seconds: float, sent: int) -> None:
        """Count and log what was refused before it could be read as a request, of which there is no method either."""
        self._note(name, None, OTHER, status, seconds, sent, {})

    def _note(self, name: str, method: str | None, path: str, status: int, seconds: float, sent: int,
              about: Mapping[str, Any]) -> None:
        self.metrics.request(path, status, seconds)
        self.log({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "request": name, "method": method,
                  "path": path, "status": status, "ms": round(1000 * seconds, 2), "sent_bytes": sent, **about})

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            return Refusal(400, "host", "a request has one Host header", close=True)
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and _name(host) not in self.hosts:
            return Refusal(421, "host", "the service is not known by this name; --allow-host NAME lets it be",
                           close=True)
        origin = headers.get(b"origin")
        if origin is not None and _address(origin.decode("latin-1")) != host.lower():
            return Refusal(403, "origin", "pages of other hosts may not use this service", close=True)
        allowed = POST if scope["path"] == "/predict" else GET
        if scope["path"] in self.metrics.PATHS and scope["method"] not in allowed:
            return Refusal(405, "method", f"{scope['path']} takes {' and '.join(allowed)}", allow=allowed)
        if self.key is not None and scope["path"] not in OPEN:
            shown = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            if not hmac.compare_digest(shown, self.key):
                return Refusal(401, "key", "show the key: Authorization: Bearer KEY, or X-API-Key: KEY", close=True)
        if self.under_way > self.max_requests and scope["path"] not in OPEN:
            return Refusal(503, "busy", f"{self.max_requests} requests are under way; try again", retry_after=1,
                           close=True)
        return None


def _address(origin: str) -> str | None:
    """"localhost:8000" of "http://localhost:8000"; None of what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """"localhost" of "localhost:8000", "::1" of "[::1]:8000", "" of what is no host."""
    if "@" in host:  # a name and a password before the host have no place here
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
