"""Optional packages: imported when they are needed, one line on how to get what is missing, and no talk of theirs."""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from importlib import metadata, util
from typing import Any

from allmlp.errors import MissingPackage

# ONNX Runtime reports its use to its maker, unless this is said before it is imported; who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

ENGINE = "allmlp_native"  # lies in our own source, and is not what has that name elsewhere
EXTRAS = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export", "openvino": "openvino", "nncf": "openvino",
          "executorch": "executorch", "torchao": "executorch"}  # fmt: skip


def need(*modules: str) -> list[Any]:
    """The modules, imported. Raises `MissingPackage` with the line that installs the first that is missing."""
    found = []
    for module in modules:
        package = module.partition(".")[0]
        try:
            found.append(importlib.import_module(module))
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == package
            why = "is not installed" if missing else f"does not load ({' '.join(str(error).split())[:150]})"
            raise MissingPackage(f"the package {package!r} {why}; install it: {install_line(package)}") from None
    return found


def need_installed(*packages: str) -> None:
    """Raises what `need` does for a package that is missing, without loading any: some take seconds, and talk."""
    for package in packages:
        if util.find_spec(package) is None:
            raise MissingPackage(f"the package {package!r} is not installed; install it: {install_line(package)}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' remarks about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def install_line(package: str) -> str:
    """What installs a package that we need."""
    if package == ENGINE:
        return "make native"
    return f"pip install 'allmlp[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def version(package: str) -> str | None:
    """The version that is installed, None: not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
