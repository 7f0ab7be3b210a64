"""The service on a socket, until it is told to end."""

import gc
import ipaddress
import socket
from collections.abc import Callable

from allmlp.errors import BadSetting
from allmlp.serve.door import Door
from allmlp.serve.limits import Limits

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
END_SECONDS = 30  # for the requests that were taken, once it is told to end


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `BadSetting` where there is none to be had."""
    if not 0 <= port <= 65_535:
        raise BadSetting(f"--port {port}: a port is a number from 0 (any free one) to 65535")
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (socket.gaierror, UnicodeError):
        raise BadSetting(f"--host {host}: no address or known name; give an address of this machine, such as 127.0.0.1 "
                         "(this machine alone) or 0.0.0.0 (its networks)") from None
    except OSError as error:
        if listening is not None:
            listening.close()
        raise BadSetting(f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); take another "
                         "port, or 0 for any free one") from None
    return listening


def serve(app: Door, listening: socket.socket, limits: Limits, started: Callable[[], None]) -> None:
    """Answer on `listening` until SIGTERM or Ctrl-C, and then what was taken. `started` is called once ready."""
    import uvicorn

    from allmlp.serve.protocol import BoundedHead

    protocol = type("Protocol", (BoundedHead,), {"door": app, "head_seconds": limits.head_seconds,
                                                 "most_connections": 2 * limits.max_requests + 100})
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="on", log_level="error", access_log=False,
                            timeout_keep_alive=5, server_header=False, timeout_graceful_shutdown=END_SECONDS)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.collect()
            gc.freeze()  # what is loaded by now stays: to go through it for garbage takes 0.1 s, while everybody waits
            if not self.should_exit:
                started()

    Server(config).run(sockets=[listening])
