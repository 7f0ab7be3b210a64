"""From a request to the bytes of its images, within the limits.

The length that a client announces is checked before a byte is read; where none is announced, bytes are counted as they
come. A body is held in memory, never written to disk, and all bodies together have a bound.
"""

import asyncio
import contextlib
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request

from allmlp.errors import printable
from allmlp.serve.limits import Limits
from allmlp.serve.refusal import Refusal

BINARY = ("application/octet-stream", "image/")  # a body that is one image
MULTIPART = "multipart/form-data"
MOST_HEADERS_BYTES = 8192  # of one part
LINGER_SECONDS = 2.0
EXTENDED_NAME = re.compile(rb"""filename\*\s*=\s*"?[\w-]*'[\w-]*'([^;"\s]*)""", re.IGNORECASE)  # RFC 5987


class Upload(NamedTuple):
    """One image as it came. `name`: what the client calls it, for the answer only."""

    name: str
    content: bytes


class Room:
    """The bytes of bodies in memory, of which there are at most `most`."""

    def __init__(self, most: int):
        self.most, self.taken = most, 0

    def take(self, size: int) -> None:
        """Raises a 503 where there is no room."""
        if self.taken + size > self.most:
            raise Refusal(503, "busy", f"requests of {self.taken / 1e6:.1f} MB are being received; try again",
                          retry_after=1, close=True)
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size


async def read_body(request: Request, limits: Limits, room: Room) -> bytes:
    """The body, whole. The caller gives its length back to `room`. Raises `Refusal`: 400 for a wrong length, 408, 413,
    415 for one that is packed, 503; and `ClientDisconnect`."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise Refusal(415, "content_encoding", f"Content-Encoding {printable(coding, 40)!r}; send the body as it is",
                      close=True)
    announced = request.headers.get("content-length")
    if announced is not None:
        if not announced.isascii() or not announced.isdigit():
            raise Refusal(400, "bad_length", f"Content-Length {printable(announced, 40)!r} is no number", close=True)
        if len(announced) > 18 or int(announced) > limits.max_body_bytes:
            if not request.headers.get("expect"):  # a client that asks first has sent nothing yet
                await _let_it_end(request)
            raise _too_large(limits)
    parts: list[bytes] = []
    taken = 0
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for part in request.stream():
                room.take(len(part))
                taken += len(part)
                if taken > limits.max_body_bytes:
                    break
                parts.append(part)
    except TimeoutError:
        room.give_back(taken)
        raise Refusal(408, "slow", f"the request did not arrive within {limits.receive_seconds:g} s",
                      close=True) from None
    except (Refusal, ClientDisconnect, asyncio.CancelledError):
        room.give_back(taken)
        raise
    if taken > limits.max_body_bytes:
        room.give_back(taken)
        del parts
        await _let_it_end(request)
        raise _too_large(limits)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _let_it_end(request: Request) -> None:
    """Read on for a moment and forget it: a connection that is closed while its client still sends is reset, and the
    answer lost."""
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await request.receive()).get("more_body"):
                pass


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, "too_large", f"the request is larger than {limits.max_body_mb:g} MB", close=True)


def uploads(content_type: str, body: bytes, limits: Limits) -> list[Upload]:
    """The images of a body, at least one. Raises `Refusal`: 400 for a broken form, 413, 415, 422 for none."""
    kind, _, _ = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == MULTIPART:
        found = _parts(content_type, body, limits)
    elif kind.startswith(BINARY):
        found = [Upload("image", body)] if body else []
    else:
        raise Refusal(415, "content_type", f"Content-Type {printable(kind, 60) or 'missing'!r}; accepted: image/*, "
                                           f"application/octet-stream, {MULTIPART}")
    if not found:
        raise Refusal(422, "no_image", "no image: send one as the body, or several as files of a form")
    return found


def _parts(content_type: str, body: bytes, limits: Limits) -> list[Upload]:
    """The files of a form, whatever their fields are called; fields without a file are passed over."""
    from python_multipart.exceptions import ParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise Refusal(400, "bad_form", "a form needs a boundary in its Content-Type")
    found: list[Upload] = []
    headers: list[tuple[bytes, bytes]] = []
    field, value, content = bytearray(), bytearray(), bytearray()
    ended = False

    def begin() -> None:
        headers.clear()
        content.clear()

    def end_header() -> None:
        headers.append((bytes(field), bytes(value)))
        field.clear()
        value.clear()
        if sum(len(name) + len(text) for name, text in headers) > MOST_HEADERS_BYTES:
            raise Refusal(400, "bad_form", "the headers of a part are too long")

    def end() -> None:
        name = _file_name(headers)
        if name is None:
            return
        if len(found) == limits.max_images:
            raise Refusal(413, "too_many", f"more than {limits.max_images} images in one request")
        found.append(Upload(name or f"image {len(found) + 1}", bytes(content)))

    def finish() -> None:
        nonlocal ended
        ended = True

    parser = MultipartParser(boundary, {
        "on_part_begin": begin, "on_part_end": end, "on_end": finish, "on_header_end": end_header,
        "on_header_field": lambda data, start, stop: field.extend(data[start:stop]),
        "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
        "on_part_data": lambda data, start, stop: content.extend(data[start:stop]),
    })
    try:
        parser.write(body)
        parser.finalize()
    except ParseError as error:
        raise Refusal(400, "bad_form", f"a broken form ({printable(error, 80)})") from None
    if not ended:
        raise Refusal(400, "bad_form", "the form ends early")
    return found


def _file_name(headers: list[tuple[bytes, bytes]]) -> str | None:
    """What the file of a part is called, "" for nothing; None for a part that is a plain field."""
    from python_multipart.multipart import parse_options_header

    for name, text in headers:
        if name.lower() == b"content-disposition":
            given = parse_options_header(text)[1].get(b"filename")
            if given is None and (encoded := EXTENDED_NAME.search(text)) is not None:
                given = unquote_to_bytes(encoded[1])
            return None if given is None else printable(given.decode("utf-8", "replace"), 200)
    return None
