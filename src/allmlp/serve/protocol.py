"""uvicorn's HTTP protocol with a limit on the head of a request, for which uvicorn has none, and refusals like ours.

Without a limit, a client that sends a header line a minute holds a connection for ever, and one that never ends its
headers fills the memory.
"""

import asyncio
import time
from typing import ClassVar

from starlette.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from allmlp.serve.body import LINGER_SECONDS
from allmlp.serve.door import Door, new_name
from allmlp.serve.refusal import Refusal

MOST_HEAD_BYTES = 65_536


class BoundedHead(HttpToolsProtocol):
    """Closes a connection whose next request has not sent all its headers `head_seconds` after it began (the first:
    after connecting), or sends more than `MOST_HEAD_BYTES` of them, which is answered by a 431."""

    door: ClassVar[Door]  # which counts and logs what is refused here
    head_seconds: ClassVar[float] = 10.0
    most_connections: ClassVar[int] = 2100  # what more of them ask gets a 503
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _refused = False  # what still comes is read, and forgotten
    _since = 0.0  # when the head under way began

    def connection_made(self, transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._begin()

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)
            self._since = time.perf_counter()

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
        if self._refused:
            return
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def _refuse_head(self) -> None:
        """A 431, unless another request of this connection waits for its answer; then it is closed without."""
        self._end()
        if self._is_answering():
            self._give_up()
            return
        self._refused = True
        self._answer(Refusal(431, "head", f"the headers of a request are larger than {MOST_HEAD_BYTES:,} bytes",
                             close=True))
        # A connection that is closed while its client still sends is reset, and the answer lost.
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self._give_up)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers, as text, to what it cannot read: there is no request that could go through the door."""
        self._answer(Refusal(400, "bad_request", "this is no HTTP request, or a broken one", close=True))
        self.transport.close()

    def _answer(self, refusal: Refusal) -> None:
        """Send it, count it and log it, as the door would; if it ends a request in the door, that does so itself."""
        name = new_name()
        answer = JSONResponse(refusal.content, refusal.status, {**refusal.headers, "X-Request-Id": name})
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(STATUS_LINE[refusal.status] + head + b"\r\n" + bytes(answer.body))
        if not self._is_answering():
            self.door.note_unread(name, refusal.status, time.perf_counter() - self._since, len(answer.body))

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        self._in_body = True
        if max(len(self.connections), len(self.tasks)) >= self.most_connections:
            # uvicorn's own limit_concurrency answers in plain text.
            self.scope.setdefault("state", {})["refusal"] = Refusal(
                503, "busy", f"{self.most_connections} connections are open; try again", retry_after=1, close=True)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)
