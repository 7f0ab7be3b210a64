"""The engine on ARM, in an emulator: nothing here was ever run on a processor of that kind."""

import os
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # building takes the most of a minute of two processors

NATIVE = Path(__file__).parents[2] / "native"
fuzz = SimpleNamespace(**runpy.run_path(str(NATIVE / "tools" / "fuzz.py")))  # has networks with a block of each family
IMAGES = np.random.default_rng(1).integers(0, 256, (3, *fuzz.SIZE, 3), dtype=np.uint8)

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", "-c"]
DOT, I8MM = "-march=armv8.2-a+dotprod", "-march=armv8.2-a+dotprod+i8mm"
LEVELS = ("neon-i8mm", "neon", "portable", "scalar")
PRECISIONS = ("fp32", "bf16", "int8")
PROGRAMS = ("check_kernels", "run_model")

# Processors, and which level the engine must choose there for int8.
PLAIN = {"cortex-a53": "portable", "cortex-a72": "portable", "a64fx": "portable"}
DOT_PRODUCT = {"cortex-a76": "neon", "neoverse-n1": "neon"}
PROCESSORS = {**PLAIN, **DOT_PRODUCT, "max": "neon-i8mm"}

# Of logits around 3. Sums in another order; in int8 bytes are equal unless such a difference moves one over its edge.
TOLERANCE = {"fp32": 1e-5, "int8": 1e-5, "bf16": 5e-3}  # bf16: operands that are rounded the other way


def objects() -> dict[str, list[str]]:
    """Of each object its source and flags, as CMakeLists.txt has them for this processor."""
    kernels = {}
    for number, precision in enumerate(PRECISIONS):
        int8 = precision == "int8"
        for name, flags in (("portable", ["-O2"]), ("neon", ["-O3", *([DOT] if int8 else [])]),
                            ("neon_i8mm", ["-O3", "-DI8MM", *([I8MM] if int8 else [])])):  # fmt: skip
            kernel = f"{name}_{precision}"
            kernels[kernel] = [name.removesuffix("_i8mm"), f"-DPRECISION={number}", f"-DKERNELS={kernel}", *flags]
    others = ("scalar", "cpu", "crc", "indices", "table", "network", "pack", "reader", "threads")
    return kernels | {name: [name, "-O2"] for name in (*others, *(f"../tools/{name}" for name in PROGRAMS))}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the two programs."""
    if missing := [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]:
        pytest.skip(f"not here: {', '.join(missing)} (Debian, Ubuntu: g++-aarch64-linux-gnu and qemu-user)")
    folder = tmp_path_factory.mktemp("arm")
    build = objects()

    def compiled(name: str) -> Path:
        source, *flags = build[name]
        result = folder / f"{Path(name).name}.o"
        subprocess.run([COMPILER, *FLAGS, *flags, NATIVE / "src" / f"{source}.cpp", "-o", result], check=True)
        return result

    with ThreadPoolExecutor(os.cpu_count()) as at_once:
        made_of = dict(zip(build, at_once.map(compiled, build), strict=True))
    for program in PROGRAMS:
        linked = [made for name, made in made_of.items() if not name.startswith("../") or name.endswith(program)]
        subprocess.run([COMPILER, "-static", *linked, "-o", folder / program], check=True)
    return folder


def emulated(processor: str, program: Path, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [EMULATOR, "-cpu", processor, program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=200)


@pytest.mark.parametrize("processor,absent", [
    ("cortex-a53", {"neon-i8mm fp32", "neon-i8mm bf16", "neon-i8mm int8", "neon int8"}),
    ("cortex-a76", {"neon-i8mm fp32", "neon-i8mm bf16", "neon-i8mm int8"}),
    ("max", set()),
])  # fmt: skip
def test_every_kernel_gives_what_the_reference_gives_at_odd_sizes(programs: Path, processor: str, absent: set[str]):
    ran = emulated(processor, programs / "check_kernels")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = dict(line.split(": ") for line in ran.stdout.decode().splitlines())
    assert set(said) == {f"{level} {precision}" for level in LEVELS[:-1] for precision in PRECISIONS}
    assert {kernel for kernel, what in said.items() if what == "does not run here"} == absent
    assert all(what.startswith("0 of ") for kernel, what in said.items() if kernel not in absent)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Where a model will be, and three images for it."""
    (tmp_path / "images").write_bytes(IMAGES.tobytes())
    return tmp_path / "model", tmp_path / "images"


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_network_gives_the_logits_of_the_reference_on_every_level(programs: Path, files: tuple[Path, Path],
                                                                     precision: str):
    files[0].write_bytes(fuzz.good_file(precision, width=68, hidden=132))
    expected = allmlp_native.Model(files[0], level="scalar")(IMAGES)  # on the processor of this machine
    assert np.abs(expected).max() > 1
    for level in LEVELS:
        for threads in (1, 2):
            ran = emulated("max", programs / "run_model", *files, level, threads)
            assert ran.returncode == 0, ran.stderr
            logits = np.frombuffer(ran.stdout, "<f4").reshape(expected.shape)
            assert np.abs(logits - expected).max() < TOLERANCE[precision], level


@pytest.mark.parametrize("processor", PROCESSORS)
def test_each_processor_gets_the_best_level_that_it_has_the_instructions_for(programs: Path, files: tuple[Path, Path],
                                                                             processor: str):
    files[0].write_bytes(fuzz.good_file("int8"))
    ran = emulated(processor, programs / "run_model", *files, "auto", 1)
    assert (ran.returncode, ran.stderr.decode().strip()) == (0, PROCESSORS[processor])
    for level in LEVELS[: LEVELS.index(PROCESSORS[processor])]:
        refused = emulated(processor, programs / "run_model", *files, level, 1)
        assert refused.returncode == 2, refused.stderr
        assert f"level '{level}' with int8 needs instructions that this processor" in refused.stderr.decode()
    files[0].write_bytes(fuzz.good_file("fp32"))
    ran = emulated(processor, programs / "run_model", *files, "auto", 1)
    assert (ran.returncode, ran.stderr.decode().strip()) == (0, "neon-i8mm" if processor == "max" else "neon")
