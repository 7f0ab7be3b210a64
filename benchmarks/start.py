"""How soon a network answers, and what it takes: our engine beside ONNX Runtime, each in a fresh process.

    python benchmarks/start.py [--model mixer_s16_224] [--rounds 10] [--threads 2] [--wheel FILE]

In every round each starts once, in turn: the interpreter, the imports, opening the model file and one image's logits.
`start_seconds` is from the start of the process, `import_seconds` from before the first import in it; the files are in
the cache of the operating system. `peak_memory_mb` is of the process. Weights are random, in fp32 and each one's int8.
`wheel_mb`: of `--wheel`, else of the installed engine's files, compressed as a wheel's are.
Rows go to results/start.csv, in place of those of the same network and threads.
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

from engine_peers import write_network
from peers.contenders import CONTENDERS
from peers.process import Failed, environment, lacks, prepare
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "start.csv"
COLUMNS = ("model", "threads", "contender", "precision", "start_seconds", "slowest_start_seconds", "import_seconds",
           "peak_memory_mb", "memory_of_onnxruntime", "file_mb", "wheel_mb", "rounds", "processor", "cores", "commit",
           "date", "command")
NAMES = ("engine-fp32", "engine-bf16", "engine-int8", "onnxruntime-fp32", "onnxruntime-int8-qdq")
BASELINE = {"fp32": "onnxruntime-fp32", "bf16": "onnxruntime-fp32", "int8": "onnxruntime-int8-qdq"}
PROGRAM = """
import time; started = time.perf_counter()
import sys
from pathlib import Path
import numpy as np
from peers.contenders import CONTENDERS, peak_memory_mb
folder = Path(sys.argv[2])
run = CONTENDERS[sys.argv[1]].open(folder, int(sys.argv[3]))
run(np.load(folder / "images.npy", mmap_mode="r")[:1].copy())
print(time.perf_counter() - started, peak_memory_mb())
"""


def started(name: str, folder: Path, threads: int) -> tuple[float, float, float]:
    """Seconds from the start of the process, seconds from its first import, and its peak memory in MB."""
    begun = time.perf_counter()
    found = subprocess.run([sys.executable, "-c", PROGRAM, name, str(folder), str(threads)], env=environment(threads),
                           capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"{name}: {found.stderr.strip().splitlines()[-1:]}")
    imported, memory = map(float, found.stdout.split())
    return time.perf_counter() - begun, imported, memory


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
        found = {name: [started(name, folder, options.threads)] for name in names}  # fills the caches
        for _ in range(options.rounds):
            for name in names:
                found[name].append(started(name, folder, options.threads))
        sizes = {name: (folder / CONTENDERS[name].file).stat().st_size / 1e6 for name in names}
    here, rows = machine(), []
    memories = {name: statistics.median(each[2] for each in turns[1:]) for name, turns in found.items()}
    for name, turns in found.items():
        precision = CONTENDERS[name].precision
        other = memories.get(BASELINE[precision])
        rows.append({
            "model": options.model, "threads": options.threads, "contender": CONTENDERS[name].title,
            "precision": precision, "start_seconds": statistics.median(turn[0] for turn in turns[1:]),
            "slowest_start_seconds": max(turn[0] for turn in turns[1:]),
            "import_seconds": statistics.median(turn[1] for turn in turns[1:]), "peak_memory_mb": memories[name],
            "memory_of_onnxruntime": memories[name] / other if other else None, "file_mb": sizes[name],
            "wheel_mb": None if CONTENDERS[name].peer else wheel_mb(options.wheel), "rounds": options.rounds,
            "processor": here["processor"], "cores": here["cores"], "commit": here["commit"],
            "date": time.strftime("%Y-%m-%d"), "command": " ".join(["python benchmarks/start.py", *sys.argv[1:]])})
        print(*(f"{column} {rows[-1][column]}" for column in COLUMNS[2:12]), sep=", ")
    kept = [old for old in read(options.results)
            if (old["model"], old["threads"]) != (options.model, str(options.threads))]
    write(options.results, COLUMNS, [*kept, *rows])


if __name__ == "__main__":
    main()
