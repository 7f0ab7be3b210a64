"""What the rows of `see-like-cnns` show, claim by claim."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from allmlp.reproduce.experiment import Found, Row
from allmlp.reproduce.spread import at_end, beyond, deviation


def found(rows: Sequence[Row]) -> Found:
    early_late = {name: [early_to_late(matrix(rows, name, "similarity", seed)) for seed in mapped(rows, name)]
                  for name in ("Mixer", "ViT", "ResNet")}
    maps = min(map(len, early_late.values()))
    to_vit, to_resnet = (of_seeds(rows, name) for name in ("ViT", "ResNet"))
    ratio = {name: at_end(rows, name, "skip_ratio") for name in early_late}
    first = {name: first_field(rows, name) for name in early_late}
    holds = {
        "uniform": beyond(early_late["ViT"], early_late["ResNet"]) > 0,
        "mixer": beyond(to_vit, to_resnet) > 0,
        "skips": beyond(ratio["ViT"], ratio["ResNet"]) > 0,
        "far": beyond(first["ViT"], first["ResNet"]) > 0,
    }

    def each(values: dict[str, list[float]], digits: int = 1) -> str:
        return ", ".join(f"{name} {fmean(seeds):.{digits}f}"
                         + f" ± {deviation(seeds):.{digits}f}" * (len(seeds) > 1) for name, seeds in values.items())

    accuracy = {name: at_end(rows, name, "test_accuracy_percent") for name in early_late}
    alone = ", on one seed, without a spread" * (maps == 1)
    learnt = f"Test accuracy, after equal steps: {each(accuracy)} %. " if all(accuracy.values()) else ""
    text = (f"{learnt}CKA of early with late layers: "
            f"{each(early_late, 2)} ({_said(holds['uniform'])}{alone}: ViT's are more alike than ResNet's). "
            f"CKA of Mixer's layers with those at the same depth of ViT {fmean(to_vit):.2f} ± {deviation(to_vit):.2f}, "
            f"of ResNet {fmean(to_resnet):.2f} ± {deviation(to_resnet):.2f} ({_said(holds['mixer'])}: Mixer is more "
            f"like ViT). Skip ratios, median over blocks: {each(ratio)} ({_said(holds['skips'])}: larger in ViT than "
            f"in ResNet). Mean distance of the pixels that a token depends on after the first block: {each(first)} px "
            f"({_said(holds['far'])}: ViT's is larger than ResNet's).")
    number = sum(holds.values())
    return Found("as claimed" if number == len(holds) else "in part" if number else "not found", text)


def _said(holds: bool) -> str:
    return "as claimed" if holds else "not as claimed"


def matrix(rows: Sequence[Row], name: str, column: str, seed: int = 0) -> np.ndarray:
    """A map `(layers, …)` from the cells of one seed."""
    cells = [str(row[column]) for row in rows
             if row["what"] == name and row["seed"] == seed and row[column] is not None]
    return np.array([[float(value) for value in cell.split()] for cell in cells])


def mapped(rows: Sequence[Row], name: str) -> list[int]:
    """The seeds of which the rows hold a similarity map; they are large, so of several seeds it is the first alone."""
    return sorted({row["seed"] for row in rows if row["what"] == name and row["similarity"] is not None})


def early_to_late(similarity: np.ndarray) -> float:
    """Mean CKA of the first third of the layers with the last third."""
    third = len(similarity) // 3
    return float(np.nanmean(similarity[:third, -third:]))


def of_seeds(rows: Sequence[Row], name: str) -> list[float]:
    """For each seed, the mean CKA of Mixer's layers with the layers of `name` at the same depth (the nearest)."""
    seeds = sorted({row["seed"] for row in rows if row["what"] == name})
    found = []
    for seed in seeds:
        cross = matrix(rows, name, "similarity_to_mixer", seed)
        along = np.linspace(0, 1, min(cross.shape))
        here, there = (np.rint(along * (size - 1)).astype(int) for size in cross.shape)
        found.append(float(np.nanmean(cross[here, there])))
    return found


def first_field(rows: Sequence[Row], name: str) -> list[float]:
    """For each seed, the mean distance of the pixels that a token depends on after the first block."""
    first: dict[int, float] = {}
    for row in rows:
        if row["what"] == name and row["layer"] and row["field_px"] is not None:
            first.setdefault(row["seed"], float(row["field_px"]))
    return [first[seed] for seed in sorted(first)]
