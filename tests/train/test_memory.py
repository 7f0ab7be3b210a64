"""Memory that training keeps."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from allmlp.train.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MiB, written once and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
before = faults()
kept = keep_freed_memory()
print(int(kept), before, min(faults() for _ in range(6)))  # the system may take pages back in between
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_tensor_as_large_as_a_freed_one_needs_no_new_pages() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, before, after = map(int, run.stdout.split())
    if not kept:
        pytest.skip("another C library than glibc")
    pages = (1 << 26) // 4096
    assert before > pages // 600  # cleared anew each time, in pages of 4 KiB or, where the system gives them, 2 MiB
    assert after <= before // 8
