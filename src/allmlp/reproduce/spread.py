"""What the rows say over seeds: means, deviations, and whether a difference is more than the spread."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from allmlp.reproduce.experiment import Row


def at_end(rows: Sequence[Row], what: str, column: str) -> list[float]:
    """The values of a column at the end of each seed's rows of `what`, those that are there, by rising seed."""
    last = {row["seed"]: row for row in rows if row["what"] == what}
    return [float(last[seed][column]) for seed in sorted(last) if last[seed][column] is not None]


def curve(rows: Sequence[Row], name: str, x: str, y: str, key: str = "what") -> tuple[
        np.ndarray, np.ndarray, np.ndarray]:
    """The rows whose `key` is `name` as a curve, by rising x: x, mean and standard deviation (0 of one seed) of y over
    the seeds."""
    points: dict[float, list[float]] = {}
    for row in rows:
        if row[key] == name and row[x] is not None and row[y] is not None:
            points.setdefault(float(row[x]), []).append(float(row[y]))
    places = sorted(points)
    return (np.array(places), np.array([statistics.fmean(points[place]) for place in places]),
            np.array([deviation(points[place]) for place in places]))


def deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation, 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """How much larger the mean of `values` is than that of `others`, and the spread of one such difference: the root of
    the sum of the two variances over seeds."""
    return (statistics.fmean(values) - statistics.fmean(others), math.hypot(deviation(values), deviation(others)))


def beyond(values: Sequence[float], others: Sequence[float]) -> int:
    """1 or -1 where the means differ, up or down, by more than the spread; else 0."""
    found, spread = difference(values, others)
    return 0 if abs(found) <= spread else 1 if found > 0 else -1


def points(values: Sequence[float], others: Sequence[float]) -> str:
    """A difference in words: "-3.1 ± 0.8 points"."""
    found, spread = difference(values, others)
    return f"{found:+.1f} ± {spread:.1f} points".replace("-", "−")
