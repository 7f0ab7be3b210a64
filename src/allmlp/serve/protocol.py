"""uvicorn's HTTP protocol with a limit on the head of a request, for which uvicorn has none, and refusals like ours.

Without a limit, a client that sends a header line a minute holds a connection for ever, and one that never ends its
headers fills the memory.
"""

import asyncio
from typing import ClassVar

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from allmlp.serve.refusal import Refusal

MOST_HEAD_BYTES = 65_536


class BoundedHead(HttpToolsProtocol):
    """Closes a connection whose next request has not sent all its headers `head_seconds` after it began (the first:
    after connecting), or sends more than `MOST_HEAD_BYTES` of them."""

    head_seconds: ClassVar[float] = 10.0
    most_connections: ClassVar[int] = 2100  # what more of them ask gets a 503
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False

    def connection_made(self, transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._begin()

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._head_bytes = 0

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MOST_HEAD_BYTES:
            self._give_up()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers, as text, to what it cannot read: there is no request that could go through the door."""
        refusal = Refusal(400, "bad_request", "this is no HTTP request, or a broken one", close=True)
        answer = JSONResponse(refusal.content, refusal.status, refusal.headers)
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(STATUS_LINE[refusal.status] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        self._in_body = True
        # uvicorn's own limit_concurrency answers in plain text.
        full = max(len(self.connections), len(self.tasks)) >= self.most_connections
        self.app = self._refuse_for_now if full else self.config.loaded_app
        super().on_headers_complete()

    async def _refuse_for_now(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = Refusal(503, "busy", f"{self.most_connections} connections are open; try again", retry_after=1,
                          close=True)
        await JSONResponse(refusal.content, refusal.status, refusal.headers)(scope, receive, send)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)
