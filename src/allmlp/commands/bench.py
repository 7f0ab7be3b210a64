"""`allmlp bench`."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from allmlp import bench
from allmlp.data import open_data
from allmlp.files import write_text_atomically
from allmlp.preprocess import Preprocess, fit

QUICK_ROUNDS, QUICK_SECONDS = 10, 2.0


def run(options: argparse.Namespace) -> int:
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (50, 20.0)
    contest = bench.Contest(options.models, options.batch, options.threads, options.rounds or rounds, seconds)
    rows = sorted(bench.run(contest, images), key=lambda row: (row["infer_batch_size"], row["threads"],
                                                                  -row["infer_samples_per_sec"]))
    if options.csv:
        text = as_csv(rows)
        if options.csv == "-":
            sys.stdout.write(text)
        else:
            write_text_atomically(options.csv, text)
    if options.json:
        print(json.dumps(rows))
    elif options.csv != "-":
        print("\n".join(lines(rows)))
    return 0


def images(size: tuple[int, int], count: int) -> np.ndarray:
    """The first digits, brought to size."""
    dataset, preprocess = open_data("digits").splits["test"], Preprocess(image_size=size)
    return np.stack([fit(dataset.image(index % len(dataset)), preprocess) for index in range(count)])


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, bench.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
                     for row in rows)
    return text.getvalue()


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fastest first, by batch size and threads; for a terminal."""
    width = max(len(row["model"]) for row in rows)
    text = [f"{'model':{width}}  batch threads  images/s   p50 ms   p95 ms   p99 ms  ready s  peak MB  file MB"]
    for row in rows:
        memory, file = (f"{value:.1f}" if value is not None else "–" for value in (row["peak_memory_mb"],
                                                                                  row["file_mb"]))
        text.append(f"{row['model']:{width}}  {row['infer_batch_size']:>5} {row['threads']:>7} "
                    f"{row['infer_samples_per_sec']:>9.1f} {row['p50_ms']:>8.2f} {row['p95_ms']:>8.2f} "
                    f"{row['p99_ms']:>8.2f} {row['load_seconds']:>8.2f} {memory:>8} {file:>8}")
    return text
