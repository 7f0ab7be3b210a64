"""A model file in the engine: damaged files, several Python threads, forks, and how little memory a call takes."""

import functools
import itertools
import math
import multiprocessing
import operator
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from allmlp.backends.manifest import Precision
from allmlp.backends.native_file import BLOCK, CHECKSUM, ENTRY, HEADER, write
from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.choices import BEST
from allmlp.quantize.int8 import quantise_for
from allmlp.quantize.parts import GMLPParts, Linear, MixerParts, Norm, Parts, ResMLPParts

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

SIZE = (8, 12)
PATCH = (4, 4)
TOKENS = 6


def parts(width: int = 20, hidden: int = 24) -> Parts:
    """A network with one block of each family, made of random numbers."""
    random = np.random.default_rng(0)

    def layer(outputs: int, inputs: int) -> Linear:
        return Linear(random.standard_normal((outputs, inputs)) / np.sqrt(inputs), random.standard_normal(outputs))

    def norm(channels: int) -> Norm:
        return Norm(1e-6, random.uniform(0.5, 2, channels), random.standard_normal(channels))

    blocks = (
        MixerParts(norm(width), layer(5, TOKENS), layer(TOKENS, 5), norm(width), layer(hidden, width),
                   layer(width, hidden), "tanh"),
        ResMLPParts(norm(width), random.standard_normal((TOKENS, TOKENS)) / 3, random.standard_normal(width),
                    random.standard_normal((TOKENS, width)), norm(width), layer(hidden, width), layer(width, hidden),
                    "erf"),
        GMLPParts(norm(width), layer(hidden, width), layer(hidden, width), norm(hidden), layer(TOKENS, TOKENS),
                  layer(width, hidden), "erf"),
    )  # fmt: skip
    return Parts(SIZE, PATCH, Linear(random.standard_normal((width, 48)) / 500, random.standard_normal(width)), blocks,
                 norm(width), layer(9, width))


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8", "mixed"])
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good file in each precision, and one in all of them."""
    return made(request.param, tmp_path_factory.mktemp("models") / request.param)


def made(precision: str, path: Path) -> bytes:
    network = parts()
    int8 = None
    if precision in ("int8", "mixed"):
        widths = (20, 20, 24)  # of what token mixing sees
        ranges = [BlockRanges(np.full(n, 4.0), (-2.0, 6.0), np.full(20, 4.0), (-5.0, 5.0)) for n in widths]
        int8 = tuple(quantise_for(block, of_block, BEST, None)[0]
                     for block, of_block in zip(network.blocks, ranges, strict=True))
    floats: dict[str, Precision] = {"blocks.0.channels": "bf16", "blocks.1.tokens": "fp32", "blocks.2": "bf16"}
    if precision == "mixed":
        write(path, network, "int8", {"a": 1}, int8, float_layers=floats)
    else:
        write(path, network, cast(Precision, precision), {"a": 1}, int8)
    return path.read_bytes()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def sealed(content: bytes) -> bytes:
    """With the checksum that it should have."""
    return content[: -CHECKSUM.size] + CHECKSUM.pack(zlib.crc32(content[: -CHECKSUM.size]))


def try_to_run(content: bytes) -> bool:
    """Whether the file, its checksum made right, is taken; if so it must run. All but a refusal in one line fails."""
    try:
        model = allmlp_native.Model(sealed(content), threads=1)
        model(np.zeros((1, *model.image_size, 3), np.uint8))
    except (ValueError, MemoryError) as refusal:
        assert len(str(refusal).splitlines()) <= 1
        return False
    return True


def test_a_good_file_runs(content: bytes):
    assert np.isfinite(allmlp_native.Model(content)(images(3))).all()


def test_a_truncated_file_is_refused_wherever_it_ends_with_its_name_and_what_to_do(content: bytes, tmp_path: Path):
    for length in {*range(0, 1000, 7), *range(0, len(content), 997), len(content) - 1}:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(allmlp_native.BadModel):
            allmlp_native.Model(content[:length])
        with pytest.raises(allmlp_native.BadModel, match="cut: .*; export the network again, or get another copy"):
            allmlp_native.Model(tmp_path / "cut")


def test_files_with_changed_bytes_are_refused_or_run(content: bytes):
    random = np.random.default_rng(0)
    front = HEADER.size + 3 * BLOCK.size + ENTRY.size * 40
    taken = 0
    for _ in range(600):
        changed = bytearray(content)
        for _ in range(random.integers(1, 4)):
            changed[random.integers(0, min(front, len(content)))] = random.choice([0, 1, 2, 127, 128, 254, 255])
        taken += try_to_run(bytes(changed))
    assert taken > 0  # else the changes test nothing but the magic number


def test_headers_with_extreme_numbers_are_refused_or_run(content: bytes):
    extremes = [0, 1, 2, 3, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1]
    for at in range(8, HEADER.size + BLOCK.size, 4):
        for number in extremes:
            try_to_run(content[:at] + struct.pack("<I", number) + content[at + 4 :])
    for entry in range(4):
        at = HEADER.size + 3 * BLOCK.size + entry * ENTRY.size
        for number in [0, 2**63, 2**64 - 1, 2**64 - 64, len(content)]:
            for field in (0, 8):
                try_to_run(content[: at + field] + struct.pack("<Q", number) + content[at + field + 8 :])


@pytest.mark.parametrize("given", ["model.allmlp", ""])
def test_bytes_are_what_is_in_a_file_and_no_path(given: str):
    with pytest.raises(allmlp_native.BadModel, match=f"^{len(given)} bytes .*b'{given}'; give a path as str or os.Pat"):
        allmlp_native.Model(given.encode())


@pytest.mark.parametrize("path,kind,message", [
    ("", ValueError, "path '': no file can have that name; give"),
    ("a\0b", ValueError, r"path 'a\\x00b': no file can have that name; give"),
    (None, TypeError, "path must be a str or os.PathLike, or bytes .* not NoneType"),
    (bytearray(b"ALLMLPN"), TypeError, "not bytearray"),
    ("/dev/null", ValueError, "^/dev/null: a pipe or a device, no file; give a file that `allmlp export"),
    (Path(__file__).parent, ValueError, "native: a folder, no file; give .* in an exported folder that is model.allml"),
])  # fmt: skip
def test_what_is_no_name_of_a_file_is_refused_by_what_it_is(path: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        allmlp_native.Model(path)


def test_numbers_of_threads_that_are_none_are_refused_however_long(content: bytes):
    none: list[Any] = [0, 257, 10**20, 10**5000, -(10**5000), True, 2.0, "2"]
    for threads in none:
        with pytest.raises(ValueError, match=r"^threads must be 1 to 256, not .{1,60}$"):
            allmlp_native.Model(content, threads=threads)


@pytest.mark.parametrize("junk", [b"", b"ALLMLPN\n", b"PK\x03\x04" + bytes(500), bytes(1000)])
def test_what_is_no_model_is_refused(junk: bytes):
    with pytest.raises(allmlp_native.BadModel):
        allmlp_native.Model(junk)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(allmlp_native.BadModel, match="missing"):
        allmlp_native.Model(tmp_path / "missing")
    with pytest.raises(allmlp_native.BadModel):
        allmlp_native.Model(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_a_file_whose_name_is_no_text_is_opened_or_named(content: bytes, tmp_path: Path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff")
    with pytest.raises(allmlp_native.BadModel, match="cannot be opened") as refusal:
        allmlp_native.Model(path)
    assert str(refusal.value).startswith(path)
    Path(path).write_bytes(content)
    assert np.array_equal(allmlp_native.Model(path)(images(1)), allmlp_native.Model(content)(images(1)))


def test_another_version_is_named(content: bytes):
    with pytest.raises(allmlp_native.BadModel, match="is of version 7; this engine reads version 5; export"):
        allmlp_native.Model(content[:8] + struct.pack("<I", 7) + content[12:])


def test_no_number_of_the_version_passes_by_the_checksum(content: bytes):
    for version in range(10):
        changed = content[:8] + struct.pack("<I", version) + content[12:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        for given in (changed, changed[: -CHECKSUM.size]):
            with pytest.raises(allmlp_native.BadModel):
                allmlp_native.Model(given)


@pytest.mark.parametrize("level", [None, 2, b"avx2", "avx1024", "\udcff", "avx2\n", "x" * 99], ids=ascii)
def test_a_level_that_is_none_is_refused_by_name(content: bytes, level: Any):
    message = rf"^no level {re.escape(repr(level)[:60])}; accepted: auto, .*scalar$"
    with pytest.raises(ValueError, match=message):
        allmlp_native.Model(content, level=level)
    with pytest.raises(ValueError, match=message):
        allmlp_native.peak("fp32", level=level)
    with pytest.raises(ValueError, match=r"^no precision .*; accepted: fp32, bf16, int8$"):
        allmlp_native.peak(level)


@pytest.mark.parametrize("given,message", [
    *(({"seconds": seconds}, "seconds must be more than 0 and at most 60, not ")
      for seconds in (-1, 0, math.nan, math.inf, 1e300, True, "1", None)),
    *(({"repeats": repeats}, "repeats must be 1 to 1000, not ") for repeats in (0, -1, 10**12, 2.0, True)),
])  # fmt: skip
def test_a_peak_is_measured_for_no_time_that_is_none_and_not_forever(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}{re.escape(repr(next(iter(given.values()))))}$"):
        allmlp_native.peak("fp32", **given)


def test_one_flipped_bit_anywhere_is_noticed(content: bytes):
    random = np.random.default_rng(0)
    for at in {0, len(content) - 1, *random.integers(0, len(content), 1000)}:
        changed = bytearray(content)
        changed[at] ^= 1 << int(random.integers(8))
        with pytest.raises(allmlp_native.BadModel) as refusal:
            allmlp_native.Model(bytes(changed), threads=1)
        assert len(str(refusal.value).splitlines()) == 1


def test_a_flipped_bit_of_a_weight_is_called_damage_and_the_file_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "m").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(allmlp_native.BadModel, match="m: damaged: .* the checksum .* export the network again"):
        allmlp_native.Model(tmp_path / "m")


def test_checksums_are_those_of_zlib_whatever_the_parts_and_their_order():
    random = np.random.default_rng(0)
    text = random.integers(0, 256, 300_017, dtype=np.uint8).tobytes()
    for size in (*range(600), 4096, len(text)):
        cuts = [0, *sorted(random.integers(0, size + 1, 3)), size]
        parts = [allmlp_native._engine._crc32_part(text[a:b], size - b) for a, b in itertools.pairwise(map(int, cuts))]
        assert allmlp_native._engine._crc32_of(functools.reduce(operator.xor, parts), size) == zlib.crc32(text[:size])


def test_each_layer_has_its_own_precision(tmp_path: Path):
    model = allmlp_native.Model(made("mixed", tmp_path / "m"))
    assert model.precisions == ["int8", "int8", "bf16", "fp32", "int8", "bf16", "bf16"]
    assert model.precision == "int8"


@pytest.mark.parametrize("block,field,number,message", [
    (0, 0, 3, "unknown precision"), (0, 1, 2**32 - 1, "unknown precision"),
    (2, 0, 0, "a gated block of two precisions"), (0, 0, 1, "tensor 5 has"),
])  # fmt: skip
def test_precisions_that_cannot_be_are_refused(block: int, field: int, number: int, message: str, tmp_path: Path):
    content = made("mixed", tmp_path / "m")
    at = HEADER.size + (block + 1) * BLOCK.size - 8 + 4 * field
    with pytest.raises(allmlp_native.BadModel, match=message):
        allmlp_native.Model(sealed(content[:at] + struct.pack("<I", number) + content[at + 4 :]))


def test_sums_too_long_for_int8_are_refused_in_the_layers_that_are_int8(tmp_path: Path):
    content, at = made("mixed", tmp_path / "m"), HEADER.size + 4  # the first block's hidden tokens, in int8
    longer = struct.pack("<I", 32769)
    with pytest.raises(allmlp_native.BadModel, match="sums too long for int8"):
        allmlp_native.Model(content[:at] + longer + content[at + 4 :])
    with pytest.raises(allmlp_native.BadModel, match="tensor .* has"):  # its hidden channels are in bf16
        allmlp_native.Model(content[: at + 4] + longer + content[at + 8 :])


# Scales and shifts of layers that have a table behind them, and tables whose ends neither stay as they are nor go on.
@pytest.mark.parametrize("tensor,from_end,change,message", [
    *((tensor, 4, struct.pack("<f", number), "could become too large")
      for tensor in (6, 7, 8, 16, 17) for number in (1e12, -1e12, np.inf, np.nan)),
    (16, 4, struct.pack("<f", -1e-3), "damaged: a negative scale of int8"),
    *((tensor, 512 - entry, b"\x07", "damaged: a table of int8") for tensor in (9, 18) for entry in (256, 300, 511)),
])  # fmt: skip
def test_what_int8_could_not_compute_with_is_refused(tensor: int, from_end: int, change: bytes, message: str,
                                                     tmp_path: Path):
    content = bytearray(made("int8", tmp_path / "m"))
    at = sum(ENTRY.unpack_from(content, HEADER.size + 3 * BLOCK.size + tensor * ENTRY.size)) - from_end
    content[at : at + len(change)] = change
    with pytest.raises(allmlp_native.BadModel, match=message):
        allmlp_native.Model(sealed(bytes(content)))


def test_a_file_and_its_bytes_are_the_same_model(content: bytes, tmp_path: Path):
    (tmp_path / "m").write_bytes(content)
    assert np.array_equal(allmlp_native.Model(tmp_path / "m")(images(2)), allmlp_native.Model(content)(images(2)))


def test_several_python_threads_get_what_one_gets(content: bytes):
    models = [allmlp_native.Model(content, threads=threads) for threads in (1, 2, 2)]
    expected = models[0](images(20))
    results: dict[int, bool] = {}

    def work(number: int) -> None:
        results[number] = all(np.array_equal(models[(number + i) % 3](images(20)), expected) for i in range(20))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == dict.fromkeys(range(6), True)


def _answer(content: bytes, answers: "multiprocessing.Queue[np.ndarray]") -> None:
    answers.put(allmlp_native.Model(content, threads=2)(images(5)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_threads_of_its_own(content: bytes):
    expected = allmlp_native.Model(content, threads=2)(images(5))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_answer, args=(content, answers))
    child.start()
    assert np.array_equal(answers.get(timeout=30), expected)
    child.join(30)
    assert child.exitcode == 0


PREPROCESS = {"image_size": SIZE, "resize": "shorter", "crop_ratio": 0.875, "interpolation": "bicubic"}
LARGER = np.zeros((20, 30, 3), np.uint8)


def test_images_of_other_sizes_are_fitted_as_the_file_says(tmp_path: Path):
    write(tmp_path / "m", parts(), "fp32", {"preprocess": PREPROCESS})
    assert allmlp_native.Model(tmp_path / "m").fit(LARGER).shape == (*SIZE, 3)


@pytest.mark.parametrize("preprocess", [
    None, [], "shorter", {}, *({**PREPROCESS, **change} for change in (
        {"crop_ratio": 0}, {"crop_ratio": 1e-300}, {"crop_ratio": "1"}, {"crop_ratio": float("nan")}, {"crop_ratio": 2},
        {"resize": "longer"}, {"resize": ["shorter"]}, {"interpolation": "lanczos"}, {"interpolation": None},
        {"image_size": None}, {"image_size": [12, 8]})),
])  # fmt: skip
def test_preprocessing_that_cannot_be_is_refused_when_it_is_needed(preprocess: object, tmp_path: Path):
    write(tmp_path / "m", parts(), "fp32", {"preprocess": preprocess})
    model = allmlp_native.Model(tmp_path / "m")
    assert np.array_equal(model.predict([images(1)[0]]), model(images(1)))  # it has the size
    with pytest.raises(allmlp_native.BadModel, match="preprocessing cannot be; export the network again"):
        model.predict([LARGER])


def test_a_description_without_preprocessing_is_refused_when_it_is_needed(content: bytes):
    with pytest.raises(allmlp_native.BadModel, match="preprocessing cannot be"):
        allmlp_native.Model(content).fit(LARGER)


def test_a_description_too_deep_to_read_is_damage(tmp_path: Path):
    write(tmp_path / "m", parts(), "fp32", {"a": "x" * 200_000})
    deep = (tmp_path / "m").read_bytes().replace(b'"' + b"x" * 200_000 + b'"', b"[" * 100_001 + b"]" * 100_001)
    with pytest.raises(allmlp_native.BadModel, match="description of the model is damaged"):
        _ = allmlp_native.Model(sealed(deep)).about


def test_images_may_be_views_and_of_no_other_size(content: bytes):
    model = allmlp_native.Model(content)
    assert np.array_equal(model(images(6)[::2]), model(images(6)[::2].copy()))
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 8, 12, 3\)"):
        model(np.zeros((1, 12, 8, 3), np.uint8))


LITTLE_MEMORY = """
import resource, sys, allmlp_native
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**24,) * 2)
try:
    allmlp_native.Model(sys.argv[1], threads=1)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux" or "asan" in os.environ.get("LD_PRELOAD", ""),
                    reason="elsewhere memory is limited otherwise, and the sanitizer needs more than is left")
def test_a_network_that_memory_does_not_hold_is_told_with_its_name(tmp_path: Path):
    made("fp32", tmp_path / "m")
    ran = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "m")], capture_output=True, text=True,
                         timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{tmp_path}/m: needs more memory than there is; use a machine")


def test_a_network_larger_than_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = made("fp32", tmp_path / "m")
    monkeypatch.setattr(allmlp_native, "memory", lambda: len(content))
    allmlp_native.Model(tmp_path / "m")
    monkeypatch.setattr(allmlp_native, "memory", lambda: 3000)
    size = f"{len(content) / 1e9:.3g}"
    told = rf"^{re.escape(str(tmp_path))}/m: needs more memory .* \(file: {size} GB; memory: 3e-06 GB\)$"
    with pytest.raises(MemoryError, match=told):
        allmlp_native.Model(tmp_path / "m")
    with pytest.raises(MemoryError, match="^needs more memory"):  # though what it claims to hold is not there
        allmlp_native.Model(content[:-CHECKSUM.size])
    (tmp_path / "m").write_bytes(b"x" * 10_000)
    with pytest.raises(allmlp_native.BadModel, match="not a model"):  # which says more than its size
        allmlp_native.Model(tmp_path / "m")
