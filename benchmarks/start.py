"""How soon a network answers, and what it takes: our engine beside ONNX Runtime, each in a fresh process.

    python benchmarks/start.py [--model mixer_s16_224] [--rounds 10] [--threads 2] [--wheel FILE]

In every round each starts once, in turn: the interpreter, the imports, opening the model file and one image's logits,
as somebody would write it who wants nothing else. `start_seconds` is from the start of the process, `import_seconds`
from before the first import in it; the files are in the cache of the operating system. `peak_memory_mb` is of the
process. "Python and numpy" imports numpy and has the image, which all of them need first; `own_seconds` (from the
start) and `own_memory_mb` are what comes on top of it. Our engine runs a second time "without numpy", given the image
as a memoryview; ONNX Runtime can't. What ends in `_of_onnxruntime` are shares of what ONNX Runtime takes. Weights are
random, in fp32 and each one's int8. `wheel_mb`: of `--wheel`, else of the installed engine's files, compressed as a
wheel's are. Rows go to results/start.csv, in place of those of the same network and threads.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np

from engine_peers import write_network
from peers.contenders import CONTENDERS
from peers.process import Failed, environment, lacks, prepare
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "start.csv"
COLUMNS = ("model", "threads", "contender", "precision", "start_seconds", "slowest_start_seconds", "import_seconds",
           "start_of_onnxruntime", "own_seconds", "own_seconds_of_onnxruntime", "peak_memory_mb",
           "memory_of_onnxruntime", "own_memory_mb", "own_memory_of_onnxruntime", "file_mb", "wheel_mb", "rounds",
           "processor", "cores", "commit", "date", "command")
NAMES = ("engine-fp32", "engine-bf16", "engine-int8", "onnxruntime-fp32", "onnxruntime-int8-qdq")
BARE = ", without numpy"  # behind the name of a contender
BASELINE = {"fp32": "onnxruntime-fp32", "bf16": "onnxruntime-fp32", "int8": "onnxruntime-int8-qdq"}
NOTHING = "numpy"
BEGIN = """
import time; started = time.perf_counter()
import sys
file, threads, shape = sys.argv[1], int(sys.argv[3]), (1, *map(int, sys.argv[4:]))
"""
ARRAY = """
import numpy as np
image = np.fromfile(sys.argv[2], np.uint8).reshape(shape)
"""
BYTES = """
image = memoryview(open(sys.argv[2], "rb").read()).cast("B", shape)
"""
PROGRAMS = {"numpy": "run = lambda images: None", "engine": """
import allmlp_native
run = allmlp_native.Model(file, threads)
""", "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
run = lambda images: session.run(None, {"images": images})[0]
"""}
END = """
run(image)
took = time.perf_counter() - started
print(took, open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


def started(name: str, folder: Path, threads: int) -> tuple[float, float, float]:
    """Seconds from the start of the process, seconds from its first import, and its peak memory in MB."""
    contender, with_numpy = name.removesuffix(BARE), not name.endswith(BARE)
    file = "" if name == NOTHING else folder / CONTENDERS[contender].file
    image = np.load(folder / "images.npy", mmap_mode="r")[0]
    with tempfile.NamedTemporaryFile() as raw:
        raw.write(image.tobytes())
        raw.flush()
        program = [sys.executable, "-c", BEGIN + (ARRAY if with_numpy else BYTES)
                   + PROGRAMS[contender.partition("-")[0]] + END]
        begun = time.perf_counter()
        found = subprocess.run([*program, str(file), raw.name, str(threads), *map(str, image.shape)],
                               env=environment(threads), capture_output=True, text=True)
        whole = time.perf_counter() - begun
    if found.returncode:
        raise SystemExit(f"{name}: {found.stderr.strip().splitlines()[-1:]}")
    imported, kilobytes = found.stdout.split()
    return whole, float(imported), int(kilobytes) * 1024 / 1e6


def wheel_mb(wheel: Path | None) -> float:
    if wheel:
        return wheel.stat().st_size / 1e6
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in metadata.files("allmlp-native") or ():
            if Path(str(file.locate())).is_file() and "__pycache__" not in file.parts:
                archive.write(str(file.locate()), str(file))
    return packed.tell() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mixer_s16_224")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--folder", type=Path, help="what engine_peers.py --prepare wrote (default: prepared anew)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    from allmlp.train.run_folder import machine

    names = [name for name in NAMES if not lacks(CONTENDERS[name].packages, sys.executable)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / options.model
        if not (folder / "about.json").exists():
            write_network(options.model, folder)
        for name in names:
            try:
                prepare(name, folder)
            except Failed as error:
                raise SystemExit(str(error)) from None
        sizes = {name: (folder / CONTENDERS[name].file).stat().st_size / 1e6 for name in names}
        bare = [name + BARE for name in names if not CONTENDERS[name].peer]
        names = [NOTHING, *names, *bare]
        found = {name: [started(name, folder, options.threads)] for name in names}  # fills the caches
        for _ in range(options.rounds):
            for name in names:
                found[name].append(started(name, folder, options.threads))
    starts, imports, memories = ({name: statistics.median(turn[which] for turn in turns[1:])
                                  for name, turns in found.items()} for which in range(3))  # fmt: skip

    def shares(name: str) -> dict[str, float]:
        other, columns = BASELINE[CONTENDERS[name.removesuffix(BARE)].precision], {}
        for column, of, least in [("start", starts, 0.0), ("own_seconds", starts, starts[NOTHING]),
                                  ("memory", memories, 0.0), ("own_memory", memories, memories[NOTHING])]:
            if other in of and not (least and name.endswith(BARE)):  # no numpy is no top of numpy
                columns[f"{column}_of_onnxruntime"] = (of[name] - least) / (of[other] - least)
        return columns

    here, rows = machine(), []
    for name in names:
        contender, without = CONTENDERS.get(name.removesuffix(BARE)), BARE if name.endswith(BARE) else ""
        row = {"model": options.model, "threads": options.threads, "start_seconds": starts[name],
               "slowest_start_seconds": max(turn[0] for turn in found[name][1:]), "import_seconds": imports[name],
               "peak_memory_mb": memories[name], "rounds": options.rounds, "processor": here["processor"],
               "cores": here["cores"], "commit": here["commit"], "date": time.strftime("%Y-%m-%d"),
               "command": " ".join(["python benchmarks/start.py", *sys.argv[1:]])}  # fmt: skip
        if contender is None:
            row |= {"contender": "Python and numpy"}
        else:
            row |= {"contender": contender.title + without, "precision": contender.precision,
                    "file_mb": sizes[name.removesuffix(BARE)],
                    "wheel_mb": None if contender.peer else wheel_mb(options.wheel), **shares(name)}  # fmt: skip
            if not without:
                row |= {"own_seconds": starts[name] - starts[NOTHING],
                        "own_memory_mb": memories[name] - memories[NOTHING]}
        rows.append({column: row.get(column) for column in COLUMNS})
        print(*(f"{column} {value}" for column, value in list(rows[-1].items())[2:16] if value is not None), sep=", ")
    kept = [old for old in read(options.results)
            if (old["model"], old["threads"]) != (options.model, str(options.threads))]
    write(options.results, COLUMNS, [*kept, *rows])


if __name__ == "__main__":
    main()
