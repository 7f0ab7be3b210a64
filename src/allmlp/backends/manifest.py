"""What an exported folder says about itself: `manifest.json`, beside the file that a runtime opens.

    onnx-fp32/
        manifest.json   which runtime, which precision, preprocessing, class names, where the weights are from, the
                        digest of every other file, and how the export did against PyTorch
        model.onnx

The folder is the MODEL of `predict` and `evaluate`. The manifest is read without trust: its size first, every field
checked by name and value, and what it lists must lie in the folder itself and have the digests that it states.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from allmlp.errors import AllMLPError, BadCheckpoint, BadSetting, printable
from allmlp.files import EXPORT_MANIFEST as NAME
from allmlp.files import open_regular, refuse_link_out, write_text_atomically
from allmlp.preprocess import OtherSizes, Preprocess
from allmlp.quantize.choices import Calibration
from allmlp.quantize.layer_cost import LayerCost
from allmlp.quantize.layers import is_layer
from allmlp.values import Value

MAX_BYTES = 32 << 20  # 100,000 class names of 300 letters
MAX_CLASSES = 1_000_000

# What changes an answer or its meaning has to stand there: a default would be a guess.
STATED = frozenset({"format", "backend", "precision", "preprocess", "num_classes", "classes", "output", "files"})

Precision = Literal["fp32", "bf16", "int8"]
Share = Annotated[float, pydantic.Field(ge=0, le=100, strict=True)]  # percent
Some = Annotated[float, pydantic.Field(ge=0, strict=True)]
Count = Annotated[int, pydantic.Field(ge=1, strict=True)]


class FileDigest(Value):
    bytes: int = pydantic.Field(ge=0, strict=True)
    sha256: str = pydantic.Field(pattern="^[0-9a-f]{64}$")


class Verification(Value):
    """The export, run in a process of its own, beside PyTorch in fp32 on the same images.

    `largest_error`, `rms_error`: of a logit, over the standard deviation of PyTorch's logits. `rms_error` must not
    exceed `limit`. Latencies: one image, median of `rounds`, the two asked in turn. `accuracy_percent` and
    `accuracy_drop` (points, paired): where the images have labels. `failures`: why it did not pass; empty if it did.
    """

    source: str
    images: Count
    max_difference: Some
    largest_error: Some
    rms_error: Some
    limit: Some
    top1_agreement_percent: Share
    accuracy_percent: Share | None = None
    accuracy_drop: float | None = pydantic.Field(default=None, ge=-100, le=100, strict=True)
    max_drop: float | None = None
    latency_ms: Some
    pytorch_latency_ms: Some
    fp32_latency_ms: Some | None = None  # the same backend's in fp32, where int8 had to be quicker
    rounds: Count
    threads: Count | None
    load_seconds: Some
    without_torch: bool
    others_percent: Share | None = None  # of the processors, that other processes had while latencies were measured
    remark: str | None = None  # what a person should know of how that machine ran it
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failures


class Division(Value):
    """How the run that the weights are from held images out of data that came without splits. `data`: as `run.json`
    has it; what is held out of the same files follows from fraction and seed."""

    data: str
    val_fraction: float = pydantic.Field(ge=0, lt=1, strict=True)
    seed: int = pydantic.Field(ge=0, strict=True)


class Manifest(Value):
    """`backend`: a name of `backends.BACKENDS`. `quantiser`: who chose the scales of int8, by so many
    `calibration_images`; `calibration`, `migrate`, `activations`: how, where that is our own. `sensitivity`: what int8
    costs each layer, where that was asked for or too much. `float_layers`: layers that stayed in float, because that
    was asked for or int8 hurt them too much, and in which. `chosen`: with precision `auto`, what was chosen and why, a
    line for each. `origin`: plain values, such as the digest of the checkpoint. `division`: what the weights have not
    learnt from; None where the data had its own splits, or nothing is known."""

    format: Literal[1] = 1
    backend: str
    precision: Precision
    quantiser: str | None = None
    calibration: Calibration | None = None
    calibration_images: int | None = pydantic.Field(default=None, ge=1, strict=True,
                                                    exclude_if=lambda value: value is None)
    migrate: float | None = pydantic.Field(default=None, ge=0, le=1, strict=True)
    activations: Literal["static", "dynamic"] | None = None
    sensitivity: tuple[LayerCost, ...] = ()
    float_layers: dict[str, Precision] = pydantic.Field(default_factory=dict)
    chosen: tuple[str, ...] = ()
    preprocess: Preprocess
    num_classes: int = pydantic.Field(ge=1, le=MAX_CLASSES, strict=True)
    classes: tuple[str, ...] | None = None
    output: Literal["softmax", "sigmoid"] = "softmax"
    # Of a network that answers for pixels: how it does for images of other sizes. None: it answers for images.
    other_sizes: OtherSizes | None = pydantic.Field(default=None, exclude_if=lambda value: value is None)
    origin: dict[str, Any] = pydantic.Field(default_factory=dict)
    division: Division | None = pydantic.Field(default=None, exclude_if=lambda value: value is None)
    versions: dict[str, str] = pydantic.Field(default_factory=dict)
    files: dict[str, FileDigest] = pydantic.Field(default_factory=dict)
    # What else the export wrote into the folder, and no runtime opens: a page. Not digested, but as much its own.
    beside: tuple[str, ...] = pydantic.Field(default=(), exclude_if=lambda value: not value)
    verification: Verification | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _layers_for_blocks(cls, fields: Any) -> Any:
        """Manifests used to name whole blocks, by number."""
        if not isinstance(fields, dict) or "float_blocks" not in fields:
            return fields
        blocks, rest = fields["float_blocks"], {name: fields[name] for name in fields if name != "float_blocks"}
        if not isinstance(blocks, list | tuple) or not all(type(number) is int for number in blocks):
            raise ValueError("float_blocks are numbers of blocks")
        return {"float_layers": {f"blocks.{number}": "fp32" for number in blocks}, **rest}

    @pydantic.model_validator(mode="after")
    def _one_name_per_class(self) -> "Manifest":
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} class names for {self.num_classes} classes")
        return self

    @pydantic.model_validator(mode="after")
    def _int8_by_one_who_says_how(self) -> "Manifest":
        if (self.quantiser is not None) != (self.precision == "int8"):
            raise ValueError(f"quantiser {printable(repr(self.quantiser), 60)} with precision {self.precision!r}; int8 "
                             "names who chose its scales, and no other precision does")
        if self.calibration_images and self.quantiser is None:
            raise ValueError(f"calibration_images {self.calibration_images} with precision {self.precision!r}; int8 "
                             "alone is calibrated")
        given = {"calibration": self.calibration, "migrate": self.migrate, "activations": self.activations,
                 "sensitivity": self.sensitivity or None, "float_layers": self.float_layers or None}
        for name, value in given.items():
            if value is not None and self.quantiser != "ours":
                raise ValueError(f"{name} {printable(repr(value), 60)}: of our own int8 only, and quantiser is "
                                 f"{printable(repr(self.quantiser), 60)}")
        for layer, precision in self.float_layers.items():
            if not is_layer(layer) or precision == "int8":
                raise ValueError(f"float_layers: {printable(repr(layer), 60)} in {precision}; a layer is stem, "
                                 "blocks.N, blocks.N.tokens or blocks.N.channels, in fp32 or bf16")
        return self


def check_classes(classes: Sequence[str] | None) -> None:
    """Raises `BadSetting` for names of classes that no manifest can hold: of folders, say, in another encoding than
    UTF-8, or so long that it would be larger than one may be."""
    for number, name in enumerate(classes or ()):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadSetting(f"class {number}, {printable(name, 60)!r}: its name is no text in Unicode, which an "
                             "export needs (a folder named in another encoding?); rename the folder and train "
                             "again") from None
    length = len(json.dumps(classes, indent=1, ensure_ascii=False).encode())
    if length > MAX_BYTES - (1 << 20):  # left for all else that a manifest says
        raise BadSetting(f"class names: they take {length:,} bytes of an export's manifest, which has at most "
                         f"{MAX_BYTES:,}; give the classes shorter names")


def is_export(path: str | os.PathLike) -> bool:
    """Whether this is a folder with a manifest."""
    return os.path.isfile(os.path.join(path, NAME))


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, atomically. Raises `CannotWrite`."""
    write_text_atomically(folder / NAME, manifest.to_json(indent=1) + "\n")


def read(folder: str | os.PathLike) -> Manifest:
    """The manifest of an exported folder. Raises `BadCheckpoint` for one that is damaged, or too large to be one."""
    path = Path(folder) / NAME
    refuse_link_out(path)
    with open_regular(path) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise BadCheckpoint(f"{path}: more than {MAX_BYTES >> 20} MB, which no manifest of an export takes; export the "
                            "network again")
    try:
        found = Manifest.from_json(text)
    except AllMLPError as error:
        raise BadCheckpoint(f"{path}: {printable(error)}; export the network again") from None
    lacking = sorted(STATED - found.model_fields_set) + [
        f"preprocess.{name}" for name in sorted(Preprocess.model_fields.keys() - found.preprocess.model_fields_set)]
    if lacking:
        raise BadCheckpoint(f"{path}: lacks {', '.join(lacking)}, which every manifest states; export the network "
                            "again")
    return found


def digest(path: Path) -> FileDigest:
    """Length and SHA-256 of a regular file. Raises `BadCheckpoint` for anything else."""
    total = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(1 << 20):
            total.update(part)
        return FileDigest(bytes=os.fstat(file.fileno()).st_size, sha256=total.hexdigest())


def digests(folder: Path) -> dict[str, FileDigest]:
    """Of every file in a folder and below, but the manifest, by its path with slashes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): digest(path) for path in paths}


def unlisted(folder: Path, manifest: Manifest) -> list[str]:
    """What lies in a folder and below that its manifest does not list, by its path with slashes; links too."""
    found = []
    for place, folders, files in os.walk(folder):
        entries = [Path(place, name) for name in (*files, *folders)]
        found += [path.relative_to(folder).as_posix() for path in entries if path.is_symlink() or not path.is_dir()]
    return sorted({*found} - {NAME, *manifest.files, *manifest.beside})


def check_files(folder: Path, manifest: Manifest, needed: Iterable[str]) -> None:
    """Raises `BadCheckpoint`, by name, for a file that is missing or not the one that was exported.

    `needed`: all files that the runtime opens, and so must be listed: another one could be a link to anywhere.
    """
    for name in needed:
        if name not in manifest.files:
            raise BadCheckpoint(f"{folder / NAME}: does not list {name}, which it is about; export the network again")
    for name, stated in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadCheckpoint(f"{folder / NAME}: names a file outside its folder: {printable(name, 80)}; "
                                "export the network again")
        if not os.path.isfile(path):
            what = "no file" if os.path.lexists(path) else "missing"
            raise BadCheckpoint(f"{printable(path)}: {what}; copy the whole exported folder, or export the "
                                "network again")
        refuse_link_out(path)
        if any(parent.is_symlink() for parent in path.parents[: len(Path(name).parts) - 1]):
            raise BadCheckpoint(f"{printable(path)}: lies behind a link; copy the whole exported folder, or "
                                "export the network again")
        if path.stat().st_size != stated.bytes or digest(path) != stated:
            raise BadCheckpoint(f"{path}: not the file that was exported (its digest differs); copy the folder again, "
                                "or export the network again")
