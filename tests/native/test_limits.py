"""The largest networks of the engine: what is written is what it takes, and more is refused before it is written."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allmlp.backends.manifest import Precision
from allmlp.backends.native import MAGIC, PRECISIONS
from allmlp.backends.native_file import BLOCK, CHECKSUM, FAMILIES, HEADER, VERSION, check_limits, write
from allmlp.errors import BadSetting
from allmlp.quantize.parts import GMLPParts, Linear, MixerParts, Norm, Parts, ResMLPParts

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

SMALL = {"family": MixerParts, "precision": "fp32", "image": (8, 8), "patch": (4, 4), "width": 8, "depth": 1,
         "classes": 3, "token_hidden": 4, "channel_hidden": 8}  # fmt: skip
BF16, INT8 = {"precision": "bf16"}, {"precision": "int8"}
RESMLP, GMLP = {"family": ResMLPParts, "token_hidden": 0}, {"family": GMLPParts, "token_hidden": 0}
# The largest that is taken, and one that is too large.
BOTH = [
    ({"image": (16384, 8), "patch": (4096, 8)}, {"image": (16388, 8), "patch": (4097, 8)}),
    ({"width": 65536}, {"width": 65537}),
    ({"depth": 1024}, {"depth": 1025}),
    ({"classes": 2**20}, {"classes": 2**20 + 1}),
    ({"image": (256, 256), "patch": (1, 1)}, {"image": (257, 256), "patch": (1, 1)}),
    ({"image": (256, 256), "patch": (1, 1), "width": 1024}, {"image": (256, 256), "patch": (1, 1), "width": 1025}),
    ({"image": (512, 682), "patch": (512, 682)}, {"image": (512, 683), "patch": (512, 683)}),
    ({"token_hidden": 2**20}, {"token_hidden": 2**20 + 1}),
    ({"channel_hidden": 2**20}, {"channel_hidden": 2**20 + 1}),
    ({"token_hidden": 2**20, "width": 64}, {"token_hidden": 2**20, "width": 65}),
    ({"image": (256, 256), "patch": (2, 2), "channel_hidden": 4096},
     {"image": (256, 256), "patch": (2, 2), "channel_hidden": 4097}),
    ({**BF16, "image": (128, 128), "patch": (128, 128)}, {**INT8, "image": (128, 128), "patch": (128, 128)}),
    ({**INT8, "image": (128, 256), "patch": (1, 1)}, {**INT8, "image": (129, 256), "patch": (1, 1)}),
    ({**INT8, "token_hidden": 32768}, {**INT8, "token_hidden": 32769}),
    ({**INT8, "channel_hidden": 32768}, {**INT8, "channel_hidden": 32769}),
    ({**INT8, "width": 32768}, {**INT8, "width": 32769}),
    ({**INT8, **RESMLP, "image": (128, 256), "patch": (1, 1)},
     {**INT8, **RESMLP, "image": (129, 256), "patch": (1, 1)}),
    ({**INT8, **GMLP, "channel_hidden": 32768}, {**INT8, **GMLP, "channel_hidden": 32770}),
    ({**GMLP, "channel_hidden": 2**20}, {**GMLP, "channel_hidden": 2**20 + 2}),
]  # fmt: skip


def parts(family: type, image: tuple[int, int], patch: tuple[int, int], width: int, depth: int, classes: int,
          token_hidden: int, channel_hidden: int, **_: object) -> Parts:
    """Zeros that take no memory."""
    def zeros(*sides: int) -> np.ndarray:
        return np.broadcast_to(0.0, sides)

    def layer(outputs: int, inputs: int) -> Linear:
        return Linear(zeros(outputs, inputs), zeros(outputs))

    def norm(channels: int) -> Norm:
        return Norm(None, zeros(channels), zeros(channels))

    tokens, half = image[0] // patch[0] * (image[1] // patch[1]), channel_hidden // 2
    if family is MixerParts:
        block = MixerParts(norm(width), layer(token_hidden, tokens), layer(tokens, token_hidden), norm(width),
                           layer(channel_hidden, width), layer(width, channel_hidden), "erf")
    elif family is ResMLPParts:
        block = ResMLPParts(norm(width), zeros(tokens, tokens), zeros(width), zeros(tokens, width), norm(width),
                            layer(channel_hidden, width), layer(width, channel_hidden), "erf")
    else:
        block = GMLPParts(norm(width), layer(half, width), layer(half, width), norm(half), layer(tokens, tokens),
                          layer(width, half), "erf")
    return Parts(image, patch, layer(width, 3 * patch[0] * patch[1]), (block,) * depth, norm(width),
                 layer(classes, width))  # fmt: skip


def headers(family: type, precision: Precision, image: tuple[int, int], patch: tuple[int, int], width: int, depth: int,
            classes: int, token_hidden: int, channel_hidden: int) -> bytes:
    """A file without tensors, by hand."""
    kind = PRECISIONS.index(precision)
    block = BLOCK.pack(FAMILIES[family], token_hidden, channel_hidden, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, kind, kind)
    header = HEADER.pack(MAGIC, VERSION, kind, *image, *patch, width, depth, classes, 0, 0, 0, HEADER.size, 0)
    return header + block * depth + bytes(CHECKSUM.size)


@pytest.mark.parametrize("most,more", BOTH)
def test_the_engine_refuses_what_is_not_written_and_takes_what_is(most: dict, more: dict):
    most, more = {**SMALL, **most}, {**SMALL, **more}
    with pytest.raises(BadSetting, match=r"the engine takes at most [\d,]+; use (--to onnx|another precision)$"):
        check_limits(parts(**more), more["precision"])
    with pytest.raises(allmlp_native.BadModel, match="^beyond the engine's limits"):
        allmlp_native.Model(headers(**more), threads=1)
    check_limits(parts(**most), most["precision"])
    with pytest.raises(allmlp_native.BadModel, match="^damaged: tensors are missing"):  # after all sizes were looked at
        allmlp_native.Model(headers(**most), threads=1)


def test_only_layers_in_int8_have_the_limits_of_int8():
    large = parts(**{**SMALL, "channel_hidden": 40000})
    with pytest.raises(BadSetting, match=r"numbers that blocks\.0\.channels adds up in int8: 40,000; .* 32,768"):
        check_limits(large, "int8")
    check_limits(large, "int8", {"blocks.0.channels": "bf16"})


def test_sizes_of_zero_are_damage():
    for at in range(16, 44, 4):
        content = headers(**SMALL)
        with pytest.raises(allmlp_native.BadModel, match="^damaged: "):
            allmlp_native.Model(content[:at] + struct.pack("<I", 0) + content[at + 4 :], threads=1)


def test_a_large_network_takes_fewer_images_between_two_looks_whether_to_end(tmp_path: Path):
    sizes: dict[str, Any] = {**SMALL, "image": (512, 512), "patch": (2, 2), "width": 256, "token_hidden": 1}
    together = {}
    for channel_hidden in (8, 512):  # 0.3 and 17 billion of multiply-adds an image
        write(tmp_path / "m", parts(**{**sizes, "channel_hidden": channel_hidden}), "fp32", {})
        model = allmlp_native.Model(tmp_path / "m", threads=2)
        together[channel_hidden] = model._network.together
    assert together == {8: 64, 512: 6}  # 7 would do, which two threads do not share evenly
