"""`allmlp doctor`: what runs on this machine, and why the rest does not."""

import argparse
import importlib
import json
import os
import platform
from importlib import util
from pathlib import Path
from typing import Any

import allmlp
from allmlp.backends import BACKENDS, Backend
from allmlp.backends.packages import install_line, version

HEAVY = {"torch", "timm", "executorch", "nncf", "torchao"}  # seconds to load: that they are installed has to do
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "onnx", "onnxscript", "onnxruntime",
             "openvino", "nncf", "executorch", "torchao", "pyarrow", "h5py")  # fmt: skip
FEATURES = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512vbmi", "avx512_bf16",
            "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16")  # fmt: skip


NEEDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("avx512", "fp32"): ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    ("avx512", "bf16"): ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"),
    ("avx512", "int8"): ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi"),
    **{("avx2", precision): ("avx2", "fma") for precision in ("fp32", "bf16", "int8")},
    **{("neon-i8mm", precision): ("asimddp", "i8mm") for precision in ("fp32", "bf16", "int8")},
    ("neon", "int8"): ("asimddp",),
}  # what a kernel of the engine takes, in Linux's words; those that run on every processor of their kind: nothing


def run(options: argparse.Namespace) -> int:
    found = {"allmlp": allmlp.__version__, "python": platform.python_version(), "system": platform.platform(terse=True),
             "processor": processor(), "backends": backends(), "kernels": kernels(),
             "libraries": {name: version(name) for name in LIBRARIES}}  # fmt: skip
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


def processor() -> dict[str, Any]:
    """Name, of how many of its cores this process gets the time, and those of `FEATURES` that Linux says it has."""
    said = cpuinfo()
    flags = features(said)
    return {"name": said.get("model name") or platform.processor() or platform.machine(), "cores": cores(),
            "features": [name for name in FEATURES if name in flags]}  # fmt: skip


def cores() -> int | None:
    """As many as the engine takes threads by itself, which knows a container's limit; where it is not, all allowed."""
    try:
        return importlib.import_module("allmlp_native").cores()
    except ImportError:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    said: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            said.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    return said


def features(said: dict[str, str]) -> set[str]:
    return set((said.get("flags") or said.get("Features") or "").split())


def backends() -> list[dict[str, Any]]:
    """Each backend: whether it works, else why not and what installs it; so too where all but int8 does."""
    return [{"name": name, "precisions": list(backend.limits), "quantisers": list(backend.quantisers),
             **_works(backend)} for name, backend in BACKENDS.items()]


def _works(backend: Backend) -> dict[str, Any]:
    if reason := _first_problem(*backend.packages, *backend.writing):
        return {"works": False, "why": reason}
    reason = _first_problem(*backend.quantising)
    return {"works": True, "why": reason and f"all but int8: {reason}"}


def _first_problem(*packages: str) -> str | None:
    return next((reason for package in packages if (reason := _problem(package))), None)


def _problem(package: str) -> str | None:
    if util.find_spec(package) is None:
        return f"{package} is not installed: {install_line(package)}"
    if package in HEAVY:
        return None
    try:
        importlib.import_module(package)
    except Exception as error:  # a broken installation can raise anything
        said = " ".join(str(error).split())[:150]
        return f"{package} is installed but does not load ({said}): {install_line(package)}"
    return None


def kernels() -> list[dict[str, Any]]:
    """The engine's kernels, the best first, each with "why" it does not run here; none where the engine is not."""
    try:
        rows = importlib.import_module("allmlp_native").kernels()
    except ImportError:
        return []
    flags = features(cpuinfo())
    return [{**row, "why": None if row["here"] else why_not(row["level"], row["precision"], flags)} for row in rows]


def why_not(level: str, precision: str, flags: set[str]) -> str:
    """`flags`: what Linux says the processor has; empty where it does not say."""
    lacking = [name for name in NEEDS.get((level, precision), ()) if name not in flags]
    if not lacking:
        return "the operating system does not allow it"
    return f"the processor {'' if flags else 'or the operating system '}lacks {', '.join(lacking)}"


def lines(found: dict[str, Any]) -> list[str]:
    machine = found["processor"]
    text = [f"allmlp {found['allmlp']}, Python {found['python']}, {found['system']}",
            f"{machine['name']}, {machine['cores']} cores: {', '.join(machine['features']) or 'features not known'}",
            "", "backends (allmlp export --to …)"]
    for row in found["backends"]:
        quantisers = f" (int8 by {', '.join(row['quantisers'])})" if row["quantisers"] else ""
        kinds = "/".join(row["precisions"]) + quantisers
        text.append(f"  {row['name']:11} {'works' if row['works'] else 'no   '}  {row['why'] or kinds}")
    text += ["", "the engine's kernels, the best first"]
    text += [f"  {kernel}" for kernel in _levels(found["kernels"])] or ["  none: the engine is not built (make native)"]
    have = [f"{name} {number}" for name, number in found["libraries"].items() if number]
    missing = [name for name, number in found["libraries"].items() if not number]
    return [*text, "", f"libraries: {', '.join(have)}", *([f"not installed: {', '.join(missing)}"] if missing else [])]


def _levels(rows: list[dict[str, Any]]) -> list[str]:
    """One line per level: what runs here, and what each of the others needs."""
    text: dict[str, list[str]] = {}
    for row in rows:
        text.setdefault(row["level"], []).append(
            f"{row['precision']} {'works' if row['here'] else 'no: ' + row['why']}")
    return [f"{level:9} {', '.join(kinds)}" for level, kinds in text.items()]
