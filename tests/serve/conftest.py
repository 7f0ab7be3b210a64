"""A service on a port of its own, as a person starts it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from allmlp import checkpoint
from allmlp.models.variants import create_model

pytest.importorskip("uvicorn", reason="the serve extra is not installed")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with class names; what it says is random, and always the same."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    checkpoint.save(create_model("mixer_p2_8", classes=[f"class {k}" for k in range(10)], seed=0), path)
    return path


class Service:
    """`allmlp serve` in a process of its own."""

    def __init__(self, model: Path, *options: str, **environment: str):
        self.log: str | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "allmlp", "serve", str(model), "--port", "0", "--threads", "1", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.line)
        assert found, (self.line, self.process.stderr.read() if self.process.stderr else "")
        self.port = int(found[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.address, timeout=30)

    def end(self) -> str:
        """Stop it; what it wrote on stderr."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        if self.log is None:
            self.log = self.process.communicate(timeout=30)[1]
        return self.log


@pytest.fixture(scope="session")
def service(model_file: Path) -> Iterator[Service]:
    running = Service(model_file, "--max-body-mb", "1", "--max-images", "4", "--max-megapixels", "1")
    yield running
    running.end()


@pytest.fixture
def start(model_file: Path) -> Iterator[Callable[..., Service]]:
    """Starts another service, with further options and environment."""
    running: list[Service] = []

    def one(*options: str, **environment: str) -> Service:
        running.append(Service(model_file, *options, **environment))
        return running[-1]

    yield one
    for service in running:
        service.end()
