"""How much the service takes on, as one value."""

from pydantic import Field

from allmlp.values import Value


class Limits(Value):
    """Bounds of one request and of all together. What exceeds those of one is refused for good (413, 422, 408), what
    exceeds those of all for now (429, 503 with Retry-After)."""

    max_batch: int = Field(default=32, ge=1, le=4096)  # images that are computed at once
    max_waiting: int = Field(default=256, ge=1, le=1_000_000)  # images in the queue
    latency_budget_ms: float = Field(default=1000, gt=0)  # a request that would wait longer is refused at the door
    answer_seconds: float = Field(default=30, gt=0)  # one that waited so long nevertheless gets a 503
    max_images: int = Field(default=32, ge=1, le=4096)  # of one request
    max_body_mb: float = Field(default=20, gt=0)  # of one request
    max_bodies_mb: float = Field(default=200, gt=0)  # of all requests that are being received or wait
    max_megapixels: float = Field(default=50, gt=0)  # of one image, decoded
    head_seconds: float = Field(default=10, gt=0)  # for the headers of a request to arrive
    receive_seconds: float = Field(default=20, gt=0)  # for its body
    max_requests: int = Field(default=1000, ge=1)  # under way at once

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1e6)

    @property
    def max_bodies_bytes(self) -> int:
        return int(max(self.max_bodies_mb, self.max_body_mb) * 1e6)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)
