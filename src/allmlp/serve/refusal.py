"""A request that is not answered, and why: one line for a person, a code for a program, the right status."""

from collections.abc import Mapping, Sequence


class Refusal(Exception):
    """Becomes `{"error": {"code", "message"}}` with `status`; `retry_after` in seconds where trying again may help."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None, close: bool = False,
                 allow: Sequence[str] = ()):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: Mapping[str, str] = {
            **({"Retry-After": str(retry_after)} if retry_after is not None else {}),
            **({"Connection": "close"} if close else {}),  # what is left of the body is not waited for
            **({"Allow": ", ".join(allow)} if allow else {}),
            **({"WWW-Authenticate": "Bearer"} if status == 401 else {}),
        }

    @property
    def content(self) -> dict:
        return {"error": {"code": self.code, "message": self.message}}
