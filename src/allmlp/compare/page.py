"""The page of a comparison: the figure, the table, the protocol and the machine."""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmlp.compare.measure import Compared, Protocol
from allmlp.files import write_text_atomically
from allmlp.report.markup import Child, tag
from allmlp.report.numbers import NOTHING, count, large, percent
from allmlp.report.page import document, section
from allmlp.report.style import STYLE
from allmlp.report.tables import machine_facts, table

EXTRA = """
.plate { margin-top: 40px; background: #fff; border-radius: 10px; padding: 10px; }
.plate img { display: block; width: 100%; height: auto; }
"""
TITLES = ("network", "weights", "image", "parameters", "MACs", "accuracy", "few-shot", "k-NN", "images/s", "latency",
          "memory")


def write_page(rows: Sequence[Compared], data: str, said: Sequence[str], protocol: Protocol, figure: Path,
               command: str, machine: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write the page with `figure` (SVG) in it as one HTML file, atomically. `said`: notes on the data."""
    image = tag("img", src=f"data:image/svg+xml;base64,{base64.b64encode(figure.read_bytes()).decode()}",
                alt="Accuracy over cost")
    header = tag("header", tag("h1", f"{len(rows)} networks on {data}"), tag("p", "Side by side under one protocol"))
    notes = [f"{row.model}: {row.note}" for row in rows if row.note]
    sections = [
        section("Numbers", f"Few-shot: mean ± standard deviation over {protocol.seeds} draws. Speed: the median round, "
                "with the slowest and the fastest.",
                table(TITLES, [_cells(row) for row in rows], range(2, len(TITLES)))),
        tag("section", tag("h2", "Notes"), tag("ul", [tag("li", note) for note in [*said, *notes]])),
        section("Protocol", _protocol(protocol), tag("pre", tag("code", command))),
        tag("section", tag("h2", "Machine and versions"), machine_facts(machine)),
    ]
    write_text_atomically(path, document(f"{len(rows)} networks on {data}", header,
                                         tag("figure", image, class_="plate"), sections, style=STYLE + EXTRA))


def _protocol(protocol: Protocol) -> str:
    limit = "all of them" if protocol.test_images is None else f"at most {count(protocol.test_images)} images"
    return (f"Few-shot: ridge regression in closed form on the pooled features of {protocol.shots} training images of "
            f"each class, L2 = 2^10, the images drawn from seeds 0 to {protocol.seeds - 1}, the same for every one. "
            f"k-NN: {protocol.neighbours} neighbours by cosine among at most {count(protocol.train_images)} training "
            "images. "
            f"Measured on {limit}, each network with its own preprocessing. MACs: matrix products and convolutions for "
            "one image. Speed, latency and peak memory: each network in a process of its own, in turns, uint8 images "
            "to logits.")


def shown_speed(value: float) -> str:
    """Three significant digits, never with an exponent: 0.571, 57.1, 5,740."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _cells(row: Compared) -> list[Child]:
    few = percent(row.few_shot_percent)
    if row.few_shot_deviation is not None and row.few_shot_percent is not None:
        few = f"{row.few_shot_percent:.1f} ± {percent(row.few_shot_deviation)}"
    speed = NOTHING if row.images_per_second is None else shown_speed(row.images_per_second)
    if row.slowest is not None and row.fastest is not None:
        speed += f" ({shown_speed(row.slowest)}–{shown_speed(row.fastest)})"
    return [row.model, row.weights, f"{row.image_size[0]} × {row.image_size[1]}", _large(row.parameters),
            _large(row.macs), percent(row.accuracy_percent), few, percent(row.knn_percent), speed,
            NOTHING if row.latency_ms is None else f"{row.latency_ms:.3g} ms",
            NOTHING if row.peak_memory_mib is None else f"{row.peak_memory_mib:,.0f} MiB"]


def _large(number: int | None) -> str:
    return NOTHING if number is None else large(number)
