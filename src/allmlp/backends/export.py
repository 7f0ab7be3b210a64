"""A network as an exported folder, which exists only once it has been run and compared."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import allmlp
from allmlp.backends import BACKENDS, Backend, find_backend
from allmlp.backends import manifest as manifests
from allmlp.backends.leftovers import exporting
from allmlp.backends.manifest import Division, Manifest, Precision
from allmlp.backends.native import check_choices
from allmlp.backends.packages import need, need_installed, version
from allmlp.backends.verify import Evidence, verify
from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting, CannotWrite, named, printable
from allmlp.files import check_parent
from allmlp.models.model import Model
from allmlp.quantize.choices import BEST, Choices
from allmlp.quantize.layer_cost import LayerCost
from allmlp.quantize.layers import all_layers, chosen

SHOWN = 3  # names of files that are in the way
COST_IMAGES = 32  # of the calibration images, for what int8 costs each layer


@dataclass(frozen=True)
class Wish:
    """What is asked for. `quantiser`: None for the backend's first. `max_drop`: of accuracy, in points; with it, int8
    and bf16 have to be no slower than the same backend in fp32 too. `choices`: how our int8 finds its ranges (None: as
    it is best). `sensitivity`: find out what our int8 costs each layer. `float_layers`: those that our int8 leaves in
    float, by name, block or pattern (`quantize.layers`)."""

    backend: str
    precision: Precision = "fp32"
    quantiser: str | None = None
    max_drop: float | None = None
    threads: int | None = None
    choices: Choices | None = None
    sensitivity: bool = False
    float_layers: tuple[str, ...] = ()

    def checked(self) -> tuple[Backend, str | None]:
        """The backend and who quantises. Raises `BadSetting`, and `MissingPackage`, before any work."""
        backend = find_backend(self.backend)
        if self.precision not in backend.limits:
            able = [name for name, other in BACKENDS.items() if self.precision in other.limits]
            raise BadSetting(f"precision {self.precision!r}: {self.backend} has {', '.join(backend.limits)}; "
                             f"{self.precision} is there for {', '.join(able)}")
        if self.quantiser is not None and (self.precision != "int8" or self.quantiser not in backend.quantisers):
            accepted = ", ".join(backend.quantisers) or "none"
            raise BadSetting(f"quantiser {self.quantiser!r}: for {self.backend} in {self.precision}; accepted with "
                             f"--precision int8: {accepted}")
        if self.choices is not None and self.backend == "native":
            check_choices(self.choices)
        quantiser = (self.quantiser or backend.quantisers[0]) if self.precision == "int8" else None
        if quantiser != "ours" and (self.choices is not None or self.sensitivity or self.float_layers):
            raise BadSetting("calibration, migrate, activations, sensitivity and float layers are about our own int8, "
                             f"not {self.backend} {quantiser or self.precision}; use --to native or onnx, --precision "
                             "int8")
        need(*backend.packages)
        need_installed(*backend.writing, *(backend.quantising if self.precision == "int8" else ()))
        return backend, quantiser


@dataclass(frozen=True)
class Exported:
    """`manifest.verification` says how it went; `folder` is None where it did not pass and so was not kept.

    `notes`: what a person should know, one line each. `tried`: (layers left in float, failures) of earlier attempts."""

    manifest: Manifest
    folder: Path | None
    notes: tuple[str, ...]
    tried: tuple[tuple[int, tuple[str, ...]], ...] = ()


def export(model: Model, folder: str | os.PathLike, wish: Wish, evidence: Evidence,
           calibration: np.ndarray | None = None, origin: Mapping[str, Any] | None = None,
           overwrite: bool = False, finish: Callable[[Path], None] | None = None,
           division: Division | None = None) -> Exported:
    """Export `model` and verify it on `evidence`. `calibration`: for int8, training images of the network's size.
    `origin`, `division`: for the manifest. `finish` writes what else shall lie in the folder of an export that passed,
    before that has its name.

    Where our int8 exceeds `max_drop`, the layers that it hurts most go back to float, twice as many in each attempt,
    until it does not, or is slower than fp32. Raises `BadSetting`, `BadCheckpoint`, `MissingPackage`, `CannotWrite`.
    """
    from allmlp.backends.graph import check_exportable

    backend, quantiser = wish.checked()
    check_exportable(model, wish.backend, wish.precision)
    if wish.precision == "int8" and calibration is None:
        raise BadSetting("precision 'int8' needs images of the training set to find its ranges; give --data")
    if wish.max_drop is not None and evidence.labels is None:
        raise BadSetting("a largest drop of accuracy needs images with labels of the network's classes; give --data")
    check_place(Path(folder), overwrite)
    target = Path(os.path.realpath(folder))  # a name of its own, also where it is given as "." or a link
    tried: list[tuple[int, tuple[str, ...]]] = []
    manifest, notes = None, ()
    asked = _asked_layers(model, wish)
    costs = cache(lambda: _costs(model, calibration, wish))  # only where it is needed
    with tempfile.TemporaryDirectory() as beside, exporting(target):
        fp32 = None
        if wish.max_drop is not None and wish.precision != "fp32":
            fp32 = Path(beside, "fp32")
            _write(model, fp32, backend, Wish(wish.backend), None, None, (), origin)
        for layers in _attempts(asked, costs):
            made = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
            try:
                manifest, notes = _write(model, made, backend, wish, quantiser, calibration, layers, origin)
                found = verify(made, evidence, backend.limits[wish.precision], threads=wish.threads,
                               max_drop=wish.max_drop, fp32=fp32)
                manifest = manifest.with_(verification=found, division=division,
                                          sensitivity=costs() if wish.sensitivity or tried else ())
                if found.passed:
                    manifest = finished(made, manifest, finish)
                    put(made, target, overwrite)
                    return Exported(manifest, Path(folder), notes, tuple(tried))
                tried.append((len(layers), found.failures))
            except AllMLPError as error:
                raise named(error, folder, made, beside) from None
            finally:
                shutil.rmtree(made, ignore_errors=True)
            precise = found.rms_error <= found.limit and (found.accuracy_drop or 0) <= (wish.max_drop or 0)
            if quantiser != "ours" or wish.max_drop is None or precise:
                break  # where it is precise and slower, more layers in float would not help
    assert manifest is not None
    assert manifest.verification is not None
    if wish.precision == "int8" and quantiser != "ours" and (manifest.verification.accuracy_drop or 0) > (
            wish.max_drop or 0):
        notes = (*notes, f"{quantiser} has int8 for all layers or none; our own, --to native or onnx, can leave those "
                         "that it hurts most in float")
    return Exported(manifest, None, notes, tuple(tried[:-1]))


def unverified(model: Model, folder: str | os.PathLike, wish: Wish, calibration: np.ndarray | None = None
               ) -> tuple[str, ...]:
    """Write the folder without running it: to measure how fast it is, not to use. Returns remarks, one line each.

    Raises what `export` does."""
    from allmlp.backends.graph import check_exportable

    backend, quantiser = wish.checked()
    check_exportable(model, wish.backend, wish.precision)
    return _write(model, Path(folder), backend, wish, quantiser, calibration, _asked_layers(model, wish), None)[1]


def _write(model: Model, folder: Path, backend: Backend, wish: Wish, quantiser: str | None,
           calibration: np.ndarray | None, layers: Sequence[str], origin: Mapping[str, Any] | None
           ) -> tuple[Manifest, tuple[str, ...]]:
    """The folder, not yet verified, and remarks."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise CannotWrite(f"{folder.parent}: no folder can be made here: {error.strerror}") from None
    more: dict[str, Any] = {}
    choices, floats = None, dict[str, Precision]()
    if quantiser == "ours":
        floats = more["float_layers"] = _floats(model, backend, calibration, layers)
        choices = more["choices"] = wish.choices or BEST
    notes = backend.load_module().export(model, folder / backend.file, wish.precision, calibration=calibration,
                                         quantiser=quantiser, **more)
    packages = ("torch", "numpy", *backend.packages)
    manifest = Manifest(
        backend=wish.backend, precision=wish.precision, quantiser=quantiser, float_layers=floats,
        calibration_images=None if quantiser is None or calibration is None else len(calibration),
        calibration=choices and choices.calibration, migrate=choices and choices.migrate,
        activations=choices and choices.activations,
        preprocess=model.preprocess, num_classes=model.num_classes, classes=model.classes, output=model.output,
        other_sizes=None if model.config.segment is None else model.config.segment.other_sizes,
        origin=dict(origin or {}), files=manifests.digests(folder),
        versions={"allmlp": allmlp.__version__, **{name: number for name in packages if (number := version(name))}},
    )  # fmt: skip
    manifests.write(folder, manifest)
    return manifest, tuple(notes or ())


def _asked_layers(model: Model, wish: Wish) -> tuple[str, ...]:
    """The names of `wish.float_layers`. Raises `BadSetting`."""
    names = all_layers([layer.kind == "gmlp" for layer in model.config.layers])
    asked = chosen(wish.float_layers, names)
    if len(asked) == len(names):
        raise BadSetting(f"float layers {' '.join(wish.float_layers)}: that is every layer, and none would be int8; "
                         "leave some out, or use --precision bf16 or fp32")
    return asked


def _costs(model: Model, calibration: np.ndarray | None, wish: Wish) -> tuple[LayerCost, ...]:
    from allmlp.quantize.network import quantise
    from allmlp.quantize.sensitivity import sensitivity

    assert calibration is not None
    return sensitivity(quantise(model, calibration, wish.choices or BEST), _cost_images(model, calibration))


def _cost_images(model: Model, calibration: np.ndarray) -> np.ndarray:
    from allmlp.quantize.calibrate import images_at_once

    return calibration[: images_at_once(model.config, COST_IMAGES)]


def _attempts(asked: tuple[str, ...], costs: Callable[[], tuple[LayerCost, ...]]) -> Iterator[tuple[str, ...]]:
    """Which layers to leave in float: those `asked` for, then with the most sensitive of the others, with two, four, …,
    as long as some are int8."""
    yield asked
    from allmlp.quantize.sensitivity import worst_layers

    others, count = [layer for layer in worst_layers(costs()) if layer not in asked], 1
    while count < len(others):
        yield (*asked, *others[:count])
        count *= 2


def _floats(model: Model, backend: Backend, calibration: np.ndarray | None, layers: Sequence[str]
            ) -> dict[str, Precision]:
    """What each of `layers` runs in: bf16, where the backend has that and it is precise enough there, else fp32."""
    if not layers or "bf16" not in backend.limits:
        return dict.fromkeys(layers, "fp32")
    from allmlp.quantize.parts import take_apart
    from allmlp.quantize.sensitivity import precise_in_bf16

    assert calibration is not None
    precise = precise_in_bf16(take_apart(model), _cost_images(model, calibration), layers)
    return {layer: "bf16" if layer in precise else "fp32" for layer in layers}


def check_place(target: Path, overwrite: bool) -> None:
    """Raises `CannotWrite` where an export cannot be put, or must not: over anything that no export wrote."""
    check_parent(os.path.realpath(target), target, "another --output")
    if not os.path.exists(target):
        if target.is_symlink():
            raise CannotWrite(f"{target}: a link to nothing; choose another --output, or remove it")
        return
    if not manifests.is_export(target):
        raise CannotWrite(f"{target}: exists and is no exported folder, so not replaced; choose another --output")
    if not overwrite:
        raise CannotWrite(f"{target}: exists; choose another --output, or --overwrite to replace the export there")
    try:
        foreign = manifests.unlisted(target, manifests.read(target))
    except BadCheckpoint:
        raise CannotWrite(f"{target}: its {manifests.NAME} is not that of an export, or damaged, so the folder is not "
                          "replaced; remove it, or choose another --output") from None
    if foreign:
        names = ", ".join(printable(name, 80) for name in foreign[:SHOWN])
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise CannotWrite(f"{target}: holds {names}{more}, which no export wrote there, so the folder is not replaced; "
                          "move that away, or choose another --output")


def finished(made: Path, manifest: Manifest, finish: Callable[[Path], None] | None) -> Manifest:
    """Write the manifest, and let `finish` write what else shall lie there; the manifest lists that too."""
    manifests.write(made, manifest)
    if finish is not None:
        finish(made)
        manifest = manifest.with_(beside=tuple(manifests.unlisted(made, manifest)))
        manifests.write(made, manifest)
    return manifest


def put(made: Path, target: Path, overwrite: bool) -> None:
    """Rename, after what stood there is out of the way; where that fails, it stands there again.

    Raises `CannotWrite`, also where something has come there since `check_place` was asked first."""
    check_place(target, overwrite)
    old = made.with_suffix(".old")
    try:
        if overwrite and target.exists():
            os.replace(target, old)
        os.replace(made, target)
    except BaseException as error:  # Ctrl-C between the two must not lose what stood there either
        with contextlib.suppress(OSError):  # nothing stood there, or somebody else has put something there meanwhile
            os.replace(old, target)
        if not isinstance(error, OSError):
            raise
        kept = f"; what stood there is now {old}" if old.exists() else ""
        raise CannotWrite(f"{target}: cannot be written: {error.strerror}{kept}") from None
    shutil.rmtree(old, ignore_errors=True)
