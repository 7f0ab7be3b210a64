"""The service beside its own OpenAPI description, by schemathesis: generated requests, right and wrong ones."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_generated_request_gets_an_answer_that_the_description_knows(service, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, answers of the stated form. Left out is the rule that whatever fits the schema
    must be accepted: a schema cannot say that bytes are an image."""
    pytest.importorskip("schemathesis")
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "run", f"{service.address}/openapi.json",
         "--max-examples", "100", "--seed", "1", "--exclude-checks", "positive_data_acceptance", "--no-color"],
        capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Selected: 5/5" in done.stdout
    assert service.process.poll() is None
