"""Damaged model files, the same few hundred each time; `native/tools/fuzz.py` makes as many as one likes."""

import collections
import os
import runpy
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")
fuzz = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "native" / "tools" / "fuzz.py")))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_damaged_files_are_refused_in_one_line_or_run(precision: str):
    files = [fuzz.good_file(precision, some) for some in (("mixer",), ("resmlp",), ("gmlp",))]
    found = collections.Counter()
    for trial in range(250):
        random = np.random.default_rng([7, trial])
        found[fuzz.outcome(fuzz.damaged(random, files), random)] += 1
    assert found["ran"] > 40  # networks of shapes that nobody meant
    assert len(found) > 8  # most of the reader's refusals


def test_taking_a_file_apart_and_together_changes_nothing():
    content = fuzz.good_file("int8")
    assert fuzz.Content.of(content).bytes() == content


def test_a_small_file_that_names_the_same_bytes_many_times_is_refused():
    content = fuzz.Content.of(fuzz.good_file("fp32", ("resmlp",)))
    content.blocks *= 500
    stem, of_block, end = content.entries[:2], content.entries[2:-4], content.entries[-4:]
    content.entries = [*stem, *of_block * 500, *end]
    with pytest.raises(allmlp_native.BadModel, match="tensors overlap"):
        allmlp_native.Model(content.bytes())


def test_activations_that_no_network_has_are_refused_before_memory_is_taken():
    good = fuzz.good_file("fp32", ("mixer",))
    header = struct.pack("<4I", 16384, 16384, 4, 4)
    with pytest.raises(allmlp_native.BadModel, match="more activations"):
        allmlp_native.Model(good[:16] + header + good[32:])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(allmlp_native.BadModel, match="no file"):
        allmlp_native.Model(tmp_path / "pipe")
