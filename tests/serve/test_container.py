"""The Dockerfile, whose steps no engine runs here: what it installs, and a service with nothing else."""

import io
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).parents[2]
STEPS = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
WITHOUT_OTHERS = """
import sys
others = set(sys.argv.pop(1).split(","))

class Door:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"{name} is not in the container", name=name)

sys.meta_path.insert(0, Door())
from allmlp.cli import main
sys.exit(main(sys.argv[1:]))
"""


def installed() -> set[str]:
    """What the first `pip install` of the Dockerfile names, our engine by its own name."""
    (line,) = [step for step in STEPS if "pip install" in step]
    words = line.split("pip install", 2)[1].split("&&")[0].split()
    words = words[words.index("constraints.txt") + 1 :]
    return {"allmlp-native" if word == "./native" else canonicalize_name(word) for word in words}


def with_what_they_need(names: set[str]) -> set[str]:
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                left |= {canonicalize_name(needed.name)} - found
    return found


def test_the_container_installs_the_serve_extra_pinned_and_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"]["serve"]}
    assert wanted <= installed()
    assert "torch" not in with_what_they_need(installed() - {"allmlp-native"})
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in pins if "==" in line}
    assert installed() - pinned == {"allmlp-native"}


def test_what_the_container_copies_is_there_and_not_kept_out() -> None:
    kept_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in ("constraints.txt", "pyproject.toml", "src", "native", "README.md"):
        assert (ROOT / name).exists()
        assert name not in kept_out


@pytest.mark.slow
def test_a_model_of_our_engine_is_served_with_what_the_container_installs(model_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("allmlp_native", reason="the engine is not built")
    folder = tmp_path / "exported"
    subprocess.run([sys.executable, "-m", "allmlp", "export", str(model_file), "--to", "native", "--output",
                    str(folder), "--data", "digits"], check=True, capture_output=True)
    names = with_what_they_need(installed()) | {"allmlp"}
    others = {module for module, owners in metadata.packages_distributions().items()
              if not names & {canonicalize_name(owner) for owner in owners}} - {"allmlp", "allmlp_native"}
    assert "torch" in others
    entry, arguments = (json.loads(step.split(" ", 1)[1]) for step in STEPS if step.startswith(("ENTRYPOINT", "CMD")))
    assert [entry[1:], arguments] == [["serve"], ["/model", "--host", "0.0.0.0"]]
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_OTHERS, ",".join(others), "serve", str(next(folder.glob("*.allmlp"))),
         "--port", "0", "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, process.communicate(timeout=30)[1]
        file = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(file, "PNG")
        answer = httpx.post(f"{found[0]}/predict", content=file.getvalue(), headers={"content-type": "image/png"})
        assert answer.status_code == 200
        (check,) = (json.loads(step.split("CMD", 1)[1]) for step in STEPS if step.startswith("HEALTHCHECK"))
        subprocess.run([sys.executable, *check[1:-1], check[-1].replace("8000", found[1])], check=True)
    finally:
        process.terminate()
        process.communicate(timeout=30)
