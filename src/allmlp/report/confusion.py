"""What was taken for what: a table of all classes while it fits a screen, else the pairs most often confused."""

import math

from allmlp.evaluate import Metrics
from allmlp.report.markup import Html, breakable, tag
from allmlp.report.numbers import count, percent
from allmlp.report.tables import table

MOST_CLASSES = 40  # of a table that still fits
MOST_PAIRS = 20


def confusion(metrics: Metrics) -> Html:
    return _matrix(metrics) if len(metrics.classes) <= MOST_CLASSES else _pairs(metrics)


def _matrix(metrics: Metrics) -> Html:
    """Rows true, columns predicted. A cell's colour is its share of the row: grey where right, accent where wrong."""
    matrix = metrics.confusion_matrix()
    names = [row.name for row in metrics.classes]
    corner = tag("th", "true ↓  said →", class_="corner")
    head = tag("tr", corner, [tag("th", tag("span", name), title=name) for name in names])
    rows = [
        tag("tr", tag("th", true, title=true), [_cell(int(matrix[t, p]), int(matrix[t].sum()), true, said, t == p)
                                    for p, said in enumerate(names)])
        for t, true in enumerate(names)
    ]
    style = "confusion" + " dense" * (len(names) > 15) + " turned" * (max(map(len, names)) > 3)
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_=style), class_="wide")


def _cell(images: int, total: int, true: str, predicted: str, right: bool) -> Html:
    if not images:
        return tag("td")
    share = images / total
    strength = 0.16 * share if right else 0.15 + 0.85 * math.sqrt(share)  # rare mistakes are to be seen, too
    said = f"{count(images)} of {count(total)} {true} called {predicted} ({percent(100 * share)})"
    kind = "right" if right else "wrong strong" if strength > 0.6 else "wrong"
    return tag("td", count(images), class_=kind, style=f"--strength:{strength:.3f}", title=said)


def _pairs(metrics: Metrics) -> Html:
    wrong = [(images, true, predicted) for true, predicted, images in metrics.confusion if true != predicted]
    if not wrong:
        return tag("p", "No image was confused.")
    wrong.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        (breakable(metrics.classes[t].name), breakable(metrics.classes[p].name), count(images),
         percent(100 * images / metrics.classes[t].support))
        for images, t, p in wrong[:MOST_PAIRS]
    ]
    return table(("true", "called", "images", "of the class"), rows, numbers=(2, 3))
