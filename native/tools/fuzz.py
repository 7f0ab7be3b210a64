"""Damaged model files: whatever is in a file, the engine refuses it in one line or runs it.

    python native/tools/fuzz.py --seconds 300
    python native/tools/fuzz.py --trial 1234      one of them again

It begins with a small network of each family in each precision. Half of the files are damaged as bytes: bits, whole
numbers, parts of other files, lengths. The other half as what they say: numbers in the headers, blocks and tensors more
or less. These are then mended: where the engine finds a tensor of another size, missing or too many, it gets what it
asks for, until it reads on to the end and runs a network of a shape that nobody meant. Nearly all get the checksum of
what they have become, since it is not what would keep out a file that was made to harm.
Every trial is its own random sequence.

Fails where a refusal has several lines, is no ValueError or does not say what to do, a trial takes more than `--limit`
seconds of work, or memory grows beyond reason. It finds most in an engine that checks every access: see
native-sanitize in the Makefile.
"""

import argparse
import collections
import faulthandler
import itertools
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import allmlp_native
import numpy as np

from allmlp.backends.native import MAGIC
from allmlp.backends.native_file import BLOCK, CHECKSUM, ENTRY, HEADER, write
from allmlp.quantize.calibrate import BlockRanges
from allmlp.quantize.choices import BEST
from allmlp.quantize.int8 import quantise_for
from allmlp.quantize.parts import GMLPParts, Linear, MixerParts, Norm, Parts, ResMLPParts

SIZE, PATCH, TOKENS = (8, 12), (4, 4), 6
EXTREME = (0, 1, 2, 3, 5, 16, 31, 33, 127, 255, 256, 4095, 16384, 32768, 65536, 2**20, 2**28, 2**31 - 1, 2**31,
           2**32 - 1)
MOST_MULTIPLY_ADDS = 10**8  # larger networks are opened, and not run: they would take as long as they should
MOST_BYTES = 1 << 20        # of a mended file


def parts(families: tuple[str, ...] = ("mixer", "resmlp", "gmlp"), width: int = 20, hidden: int = 24) -> Parts:
    """A network with one block of each of the families, made of random numbers."""
    random = np.random.default_rng(0)

    def layer(outputs: int, inputs: int) -> Linear:
        return Linear(random.standard_normal((outputs, inputs)) / np.sqrt(inputs), random.standard_normal(outputs))

    def norm(channels: int) -> Norm:
        return Norm(1e-6, random.uniform(0.5, 2, channels), random.standard_normal(channels))

    made = {
        "mixer": lambda: MixerParts(norm(width), layer(5, TOKENS), layer(TOKENS, 5), norm(width), layer(hidden, width),
                                    layer(width, hidden), "tanh"),
        "resmlp": lambda: ResMLPParts(norm(width), random.standard_normal((TOKENS, TOKENS)) / 3,
                                      random.standard_normal(width), random.standard_normal((TOKENS, width)),
                                      norm(width), layer(hidden, width), layer(width, hidden), "erf"),
        "gmlp": lambda: GMLPParts(norm(width), layer(hidden, width), layer(hidden, width), norm(hidden),
                                  layer(TOKENS, TOKENS), layer(width, hidden), "erf"),
    }  # fmt: skip
    blocks = tuple(made[family]() for family in families)
    return Parts(SIZE, PATCH, Linear(random.standard_normal((width, 48)) / 500, random.standard_normal(width)), blocks,
                 norm(width), layer(9, width))


def good_file(precision: str, families: tuple[str, ...] = ("mixer", "resmlp", "gmlp"), **sizes: int) -> bytes:
    network, int8 = parts(families, **sizes), None
    if precision == "int8":
        int8 = tuple(quantise_for(block, BlockRanges(
            np.full(len(block.gate.bias) if isinstance(block, GMLPParts) else network.width, 4.0), (-5.0, 5.0),
            np.full(network.width, 4.0), (-5.0, 5.0)), BEST, None)[0] for block in network.blocks)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "m", network, precision, {"a": 1}, int8)  # type: ignore[arg-type]
        return (Path(folder) / "m").read_bytes()


def sealed(content: bytes) -> bytes:
    """With the checksum at its end that it should have."""
    if len(content) < HEADER.size + CHECKSUM.size:
        return content
    return content[: -CHECKSUM.size] + CHECKSUM.pack(zlib.crc32(content[: -CHECKSUM.size]))


@dataclass
class Content:
    """A file taken apart; `bytes` puts it together. Tensors begin where `entries` say, counted from their own begin."""

    header: list
    blocks: list[list] = field(default_factory=list)
    entries: list[list[int]] = field(default_factory=list)
    rest: bytes = b""

    @classmethod
    def of(cls, content: bytes) -> "Content":
        header, at = list(HEADER.unpack_from(content)), HEADER.size
        depth, tensors = header[8], header[10]
        blocks = [list(BLOCK.unpack_from(content, at + i * BLOCK.size)) for i in range(depth)]
        at += depth * BLOCK.size
        entries = [list(ENTRY.unpack_from(content, at + i * ENTRY.size)) for i in range(tensors)]
        at += tensors * ENTRY.size
        header[-2] -= at
        return cls(header, blocks, [[offset - at, size] for offset, size in entries], content[at : -CHECKSUM.size])

    def bytes(self) -> bytes:
        at = HEADER.size + BLOCK.size * len(self.blocks) + ENTRY.size * len(self.entries)
        header = [*self.header]
        header[8], header[10], header[-2] = len(self.blocks), len(self.entries), header[-2] + at
        parts = [HEADER.pack(*header), *(BLOCK.pack(*block) for block in self.blocks),
                 *(ENTRY.pack((offset + at) % 2**64, size) for offset, size in self.entries), self.rest]
        return sealed(b"".join([*parts, bytes(CHECKSUM.size)]))


def number(random: np.random.Generator, old: int) -> int:
    """Another one: extreme, or near the old one."""
    near = (old + 1, old - 1, 2 * old, old // 2, old ^ 1 << int(random.integers(32)))
    return int(random.choice(EXTREME if random.random() < 0.3 else near)) % 2**32


def damage_bytes(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        front = random.random() < 0.7  # the headers are the smaller part and the more telling one
        at = int(random.integers(0, min(len(changed), 1000) if front else len(changed)))
        match random.integers(6):
            case 0:
                changed[at] ^= 1 << int(random.integers(8))
            case 1:
                changed[at] = int(random.integers(256))
            case 2 if at + 4 <= len(changed):
                at -= at % 4
                old = struct.unpack_from("<I", changed, at)[0]
                struct.pack_into("<I", changed, at, number(random, old))
            case 3:
                length = int(random.integers(1, 200))
                changed[at : at + length] = other[at : at + length]
            case 4 if random.random() < 0.3:
                del changed[max(at, 1) :]
            case 5:
                struct.pack_into("<f", changed := changed + bytes(4), at, random.choice([np.nan, np.inf, 1e38, 1e-40]))
    return bytes(changed)


def damage_sense(random: np.random.Generator, content: Content) -> None:
    for _ in range(random.integers(1, 4)):
        block = content.blocks[random.integers(len(content.blocks))]
        match random.integers(8):
            case 0 | 1:
                at = int(random.integers(2, 10))  # precision, sides of image and patch, width, classes
                if at != 8:
                    content.header[at] = number(random, content.header[at])
            case 2:
                at = int(random.integers(0, 6))
                block[at] = number(random, block[at])
            case 3:
                block[0] = int(random.integers(3))
            case 4:
                block[8 + random.integers(4)] = number(random, 128)
            case 5 if len(content.blocks) > 1:
                content.blocks.remove(block)
            case 6:
                content.blocks.insert(0, [*block])
            case 7:
                block[-2:] = map(int, random.integers(0, 3, 2))  # precisions


def mended(content: Content, random: np.random.Generator) -> bytes:
    """Such that the tensors are what the headers ask for, if that can be had."""
    for _ in range(300):
        try:
            allmlp_native.Model(content.bytes(), threads=1)
            break
        except allmlp_native.BadModel as refusal:
            said = str(refusal)
        if found := re.search(r"tensor (\d+) has \d+ bytes, not (\d+)", said):
            which, size = map(int, found.groups())
            if size + len(content.rest) > MOST_BYTES:
                break
            content.entries[which] = [len(content.rest), size]
            content.rest += random.standard_normal(size // 4 + 1).astype("<f4").tobytes()
        elif "missing" in said:
            content.entries.append([0, 0])
        elif "belong to nothing" in said:
            content.entries.pop()
        else:
            break
    return content.bytes()


def damaged(random: np.random.Generator, files: list[bytes]) -> bytes:
    content, other = (files[random.integers(len(files))] for _ in range(2))
    if random.random() < 0.5:
        content = damage_bytes(random, content, other)
    else:
        taken_apart = Content.of(content)
        damage_sense(random, taken_apart)
        content = mended(taken_apart, random)
        if random.random() < 0.2:
            content = damage_bytes(random, content, other)
    return sealed(content) if random.random() < 0.95 else content


def outcome(content: bytes, random: np.random.Generator) -> str:
    """What became of it, in a word or two. Raises what is no refusal; AssertionError for one that is not one line."""
    levels = sorted({row["level"] for row in allmlp_native.kernels() if row["here"]})
    try:
        model = allmlp_native.Model(content, threads=int(random.integers(1, 3)), level=str(random.choice(levels)))
        if model.multiply_adds > MOST_MULTIPLY_ADDS:
            return "opened"
        model(random.integers(0, 256, (random.integers(1, 4), *model.image_size, 3), dtype=np.uint8))
    except (ValueError, MemoryError) as refusal:
        said = str(refusal)
        assert len(said.splitlines()) <= 1, said
        if isinstance(refusal, allmlp_native.BadModel) and content.startswith(MAGIC):
            assert said.endswith("; export the network again, or get another copy of the file"), said
        return "refused: " + re.sub(r"\d+", "N", said)
    return "ran"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="only this one")
    parser.add_argument("--limit", type=float, default=30, help="seconds of processor that a trial may take")
    options = parser.parse_args()
    faulthandler.register(signal.SIGPROF, chain=True)
    families = [("mixer",), ("resmlp",), ("gmlp",), ("mixer", "resmlp", "gmlp")]
    files = [good_file(precision, some) for precision in ("fp32", "bf16", "int8") for some in families]
    found, slowest, grown = collections.Counter[str](), (0.0, 0), 0.0
    begun, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for trial in itertools.count() if options.trial is None else (options.trial,):
        print(trial, end="\r", file=sys.stderr, flush=True)  # what to give --trial after a crash
        signal.setitimer(signal.ITIMER_PROF, options.limit)
        faulthandler.dump_traceback_later(20 * options.limit, exit=True)
        started, random = time.process_time(), np.random.default_rng([options.seed, trial])
        found[outcome(damaged(random, files), random)] += 1
        slowest = max(slowest, (time.process_time() - started, trial))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        if grown > 2000:
            sys.exit(f"trial {trial}: the process has grown by {grown:.0f} MB")
        if time.perf_counter() - begun > options.seconds:
            break
    faulthandler.cancel_dump_traceback_later()
    for what, count in found.most_common():
        print(f"{count:8d}  {what}")
    print(f"{found.total()} files, the slowest took {slowest[0]:.2f} s (trial {slowest[1]}), "
          f"the process grew by {grown:.0f} MB")


if __name__ == "__main__":
    main()
