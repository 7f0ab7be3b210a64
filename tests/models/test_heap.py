"""What a network costs beside its arithmetic when it is only called."""

import subprocess
import sys

import pytest

CALLS = """
import resource, torch
from allmlp.models.variants import create_model

torch.set_num_threads(2)
model, images = create_model("gmlp_s16_224", seed=0).eval(), torch.zeros(1, 3, 224, 224)
with torch.inference_mode():
    for _ in range(3):
        model(images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        model(images)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux does")
def test_a_call_reuses_the_memory_of_the_call_before():
    said = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, check=True).stdout
    assert int(said) < 500  # thousands, if each activation of 100 KB and more is a new mapping
