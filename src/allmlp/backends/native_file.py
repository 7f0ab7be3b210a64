"""The engine's model file: the headers and the tensors in their order, as `native/src/format.h` says.

Little-endian throughout. Tensors begin on 64 bytes. The last four bytes are the CRC-32 of all before.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from allmlp.backends.native import MAGIC, PRECISIONS, Precision
from allmlp.errors import BadSetting, NotForThisNetwork
from allmlp.files import write_atomically
from allmlp.quantize.arithmetic import rounded_to_bf16
from allmlp.quantize.int8 import Int8Block, Int8GMLP, Int8Linear, Int8Mixer, Int8ResMLP, linear
from allmlp.quantize.layers import STEM, all_layers, of_block
from allmlp.quantize.parts import PIXEL_CENTRE, BlockParts, GMLPParts, Linear, MixerParts, Norm, Parts, ResMLPParts

VERSION = 5
ALIGNMENT = 64
HEADER = struct.Struct("<8s11If2Q")
BLOCK = struct.Struct("<6I2f4I2f2I")
ENTRY = struct.Struct("<2Q")
CHECKSUM = struct.Struct("<I")

FAMILIES = {MixerParts: 0, ResMLPParts: 1, GMLPParts: 2}


MOST_IN_SUM = 1 << 15  # numbers that int8 adds up
MOST_ACTIVATIONS = 1 << 26  # numbers of a layer, of one image
MOST_ABOUT = 64 << 20  # bytes of the description


def _precisions(parts: Parts, precision: Precision, float_layers: Mapping[str, Precision] | None
                ) -> dict[str, Precision]:
    names = all_layers([isinstance(block, GMLPParts) for block in parts.blocks])
    return {name: (float_layers or {}).get(name, precision) for name in names}


def check_limits(parts: Parts, precision: Precision, float_layers: Mapping[str, Precision] | None = None) -> None:
    """Raises `BadSetting` for a network of sizes that the engine does not take, by `native/src/reader.cpp`."""
    _refuse(_sizes(parts, _precisions(parts, precision, float_layers)))


def check_tokens(image_size: tuple[int, int], tokens: int) -> None:
    """The same of what is known before a network is taken apart, which takes twice its memory."""
    _refuse(_image_sizes(image_size, tokens))


def _refuse(sizes: Iterable[tuple[str, int, int]]) -> None:
    for what, size, most in sizes:
        if size > most:
            raise NotForThisNetwork(f"{what}: {size:,}; the engine takes at most {most:,}; use "
                                    + ("another precision" if what.endswith("int8") else "--to onnx"))


def _image_sizes(image_size: tuple[int, int], tokens: int) -> Iterator[tuple[str, int, int]]:
    yield "sides of images", max(image_size), 1 << 14
    yield "patches of an image", tokens, 1 << 16


def _sizes(parts: Parts, precisions: Mapping[str, Precision]) -> Iterator[tuple[str, int, int]]:
    patch = 3 * math.prod(parts.patch_size)
    tokens = math.prod(parts.image_size) // math.prod(parts.patch_size)
    yield from _image_sizes(parts.image_size, tokens)
    yield "width", parts.width, 1 << 16
    yield "blocks", len(parts.blocks), 1024
    yield "classes", len(parts.head.bias), 1 << 20
    yield "patches times width", tokens * parts.width, MOST_ACTIVATIONS
    yield "numbers of a patch", patch, 1 << 20
    if precisions[STEM] == "int8":
        yield "numbers of a patch in int8", patch, MOST_IN_SUM
    for number, block in enumerate(parts.blocks):
        token_hidden, channel_hidden = _hidden(block)
        yield f"token hidden of block {number}", token_hidden, 1 << 20
        yield f"channel hidden of block {number}", channel_hidden, 1 << 20
        yield f"patches times channel hidden of block {number}", tokens * channel_hidden, MOST_ACTIVATIONS
        yield f"token hidden times width of block {number}", token_hidden * parts.width, MOST_ACTIVATIONS
        names = of_block(number, isinstance(block, GMLPParts))
        for name, sums in zip(names, ((tokens, token_hidden), (parts.width, channel_hidden)), strict=True):
            if precisions[name] == "int8":
                yield f"numbers that {name} adds up in int8", max(sums), MOST_IN_SUM


def _hidden(block: BlockParts) -> tuple[int, int]:
    """Over tokens (0: there are none) and over channels; gMLP's are those of both halves."""
    if isinstance(block, GMLPParts):
        return 0, 2 * len(block.carrier.bias)
    return len(block.tokens1.bias) if isinstance(block, MixerParts) else 0, len(block.channels1.bias)


def described(about: Mapping[str, Any]) -> bytes:
    """The description of a file, as it stands there. Raises `BadSetting` for one longer than the engine takes."""
    text = json.dumps(about, ensure_ascii=False).encode()
    if len(text) > MOST_ABOUT:
        raise BadSetting(f"class names: the engine's file describes itself in at most {MOST_ABOUT:,} bytes, and with "
                         f"them that takes {len(text):,}; give the classes shorter names")
    return text


def write(path: str | os.PathLike, parts: Parts, precision: Precision, about: Mapping[str, Any],
          int8: tuple[Int8Block, ...] | None = None, stem: Int8Linear | None = None,
          float_layers: Mapping[str, Precision] | None = None) -> None:
    """Write a model file, atomically. `int8`: the blocks, for that precision; `stem`: None rounds it to nearest;
    `float_layers`: layers that are not int8, by name (`quantize.layers`), and what they are instead.

    Raises `CannotWrite`, and what `described` does. Not everything that can be written can be read: `check_limits`."""
    precisions = _precisions(parts, precision, float_layers)
    tensors = list(_tensors(parts, precisions, int8, stem))
    headers = [_block_header(parts, number, precisions, int8) for number in range(len(parts.blocks))]
    description = described(about)
    offset = HEADER.size + BLOCK.size * len(headers) + ENTRY.size * len(tensors)
    about_offset, offset = offset, offset + len(description)
    entries = []
    for tensor in tensors:
        offset = -(-offset // ALIGNMENT) * ALIGNMENT
        entries.append((offset, tensor.nbytes))
        offset += tensor.nbytes
    header = HEADER.pack(
        MAGIC, VERSION, PRECISIONS.index(precisions[STEM]), *parts.image_size, *parts.patch_size, parts.width,
        len(parts.blocks), len(parts.head.bias), len(tensors), *_norm_header(parts.norm), about_offset,
        len(description),
    )  # fmt: skip

    def write_to(temporary: str) -> None:
        with open(temporary, "wb") as file:
            checksum = 0

            def put(content: bytes) -> None:
                nonlocal checksum
                file.write(content)
                checksum = zlib.crc32(content, checksum)

            put(header + b"".join(headers) + b"".join(ENTRY.pack(*entry) for entry in entries) + description)
            for (start, _), tensor in zip(entries, tensors, strict=True):
                put(bytes(start - file.tell()))
                put(tensor.tobytes())
            file.write(CHECKSUM.pack(checksum))

    write_atomically(path, write_to)


def _norm_header(norm: Norm) -> tuple[int, float]:
    return (0, 0.0) if norm.epsilon is None else (1, norm.epsilon)


def _block_header(parts: Parts, number: int, precisions: Mapping[str, Precision],
                  int8: tuple[Int8Block, ...] | None) -> bytes:
    block = parts.blocks[number]
    zero_points, gate = (0, 0, 0, 0), (1.0, 0.0)
    if int8 is not None:
        quantised = int8[number]
        if isinstance(quantised, Int8Mixer):
            layers = (quantised.tokens1, quantised.tokens2, quantised.channels1, quantised.channels2)
        elif isinstance(quantised, Int8ResMLP):
            layers = (quantised.tokens, quantised.tokens, quantised.channels1, quantised.channels2)
        else:
            layers = (quantised.tokens, quantised.tokens, quantised.carrier, quantised.out)
            gate = (quantised.out_scale, quantised.out_shift)
        zero_points = tuple(layer.zero_point for layer in layers)
    (kind1, epsilon1), (kind2, epsilon2) = _norm_header(block.norm1), _norm_header(block.norm2)
    of_layers = (PRECISIONS.index(precisions[name]) for name in of_block(number, isinstance(block, GMLPParts)))
    return BLOCK.pack(FAMILIES[type(block)], *_hidden(block), block.gelu == "tanh", kind1, kind2, epsilon1,
                      epsilon2, *zero_points, *gate, *of_layers)


def _float(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype="<f4")


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Finite numbers as the upper halves of float32, rounded to nearest, ties to even."""
    return (rounded_to_bf16(values).view(np.uint32) >> 16).astype("<u2")


def _weight(values: np.ndarray, precision: Precision) -> np.ndarray:
    return to_bf16(values) if precision == "bf16" else _float(values)


def _linear(layer: Linear, precision: Precision) -> Iterator[np.ndarray]:
    yield _weight(layer.weight, precision)
    yield _float(layer.bias)


def _int8_linear(layer: Int8Linear) -> Iterator[np.ndarray]:
    yield np.ascontiguousarray(layer.weight)
    yield _float(layer.scale)
    yield _float(layer.shift)


def _norm(norm: Norm) -> Iterator[np.ndarray]:
    yield _float(norm.scale)
    yield _float(norm.shift)


def _tensors(parts: Parts, precisions: Mapping[str, Precision], int8: tuple[Int8Block, ...] | None,
             stem: Int8Linear | None) -> Iterator[np.ndarray]:
    if precisions[STEM] == "int8":
        yield from _int8_linear(stem or linear(parts.stem, 1.0, PIXEL_CENTRE))
    else:
        yield from _linear(parts.stem, precisions[STEM])
    for number, block in enumerate(parts.blocks):
        names = of_block(number, isinstance(block, GMLPParts))
        over_tokens, over_channels = precisions[names[0]], precisions[names[1]]
        quantised = int8[number] if int8 is not None else None
        if isinstance(block, GMLPParts):
            yield from _gated(quantised if over_tokens == "int8" else block, over_tokens)
        else:
            yield from _over_tokens(quantised if over_tokens == "int8" else block, over_tokens)
            yield from _over_channels(quantised if over_channels == "int8" else block, over_channels)
    yield from _norm(parts.norm)
    yield from _linear(parts.head, "fp32")


def _over_tokens(block: BlockParts | Int8Block | None, precision: Precision) -> Iterator[np.ndarray]:
    assert isinstance(block, MixerParts | ResMLPParts | Int8Mixer | Int8ResMLP)
    yield from _norm(block.norm1)
    if isinstance(block, MixerParts):
        yield from _linear(block.tokens1, precision)
        yield from _linear(block.tokens2, precision)
    elif isinstance(block, Int8Mixer):
        yield from _int8_linear(block.tokens1)
        yield _float(block.column_scale)
        yield block.tokens_table
        yield from _int8_linear(block.tokens2)
    else:
        if isinstance(block, Int8ResMLP):
            yield np.ascontiguousarray(block.tokens.weight)
            yield _float(block.tokens.scale)
        else:
            yield _weight(block.tokens, precision)
        yield _float(block.column_scale)
        yield _float(block.shift)


def _over_channels(block: BlockParts | Int8Block | None, precision: Precision) -> Iterator[np.ndarray]:
    assert isinstance(block, MixerParts | ResMLPParts | Int8Mixer | Int8ResMLP)
    yield from _norm(block.norm2)
    if isinstance(block, Int8Mixer | Int8ResMLP):
        yield from _int8_linear(block.channels1)
        yield block.channels_table
        yield from _int8_linear(block.channels2)
    else:
        yield from _linear(block.channels1, precision)
        yield from _linear(block.channels2, precision)


def _gated(block: BlockParts | Int8Block | None, precision: Precision) -> Iterator[np.ndarray]:
    assert isinstance(block, GMLPParts | Int8GMLP)
    yield from _norm(block.norm1)
    if isinstance(block, Int8GMLP):
        yield from _int8_linear(block.carrier)
        yield from _int8_linear(block.gate)
        yield from _norm(block.norm2)
        yield from _int8_linear(block.tokens)
        yield _float(block.column_scale)
        yield from _int8_linear(block.out)
    else:
        yield from _linear(block.carrier, precision)
        yield from _linear(block.gate, precision)
        yield from _norm(block.norm2)
        yield from _linear(block.tokens, precision)
        yield from _linear(block.out, precision)
