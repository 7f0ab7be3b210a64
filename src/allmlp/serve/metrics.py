"""What Prometheus reads at /metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts of one service; no globals, so that several can live in one process."""

    PATHS = frozenset({"/predict", "/healthz", "/readyz", "/metadata", "/metrics", "/openapi.json"})

    def __init__(self):
        self.registry = CollectorRegistry()
        self._requests = Counter("allmlp_requests", "Requests by path and status.", ("path", "status"),
                                 registry=self.registry)
        self._seconds = Histogram("allmlp_request_seconds", "From the header of a request to the end of its answer.",
                                  ("path",), buckets=SECONDS, registry=self.registry)
        self._batch = Histogram("allmlp_batch_images", "Images computed at once.", buckets=IMAGES,
                                registry=self.registry)
        self._batch_seconds = Histogram("allmlp_batch_seconds", "Decoding and predicting a batch.", buckets=SECONDS,
                                        registry=self.registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int, seconds: float) -> None:
        self._batch.observe(images)
        self._batch_seconds.observe(seconds)

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is read."""
        Gauge(name, help, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        return generate_latest(self.registry)
