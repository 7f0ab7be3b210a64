"""The reliability diagram: in each bin of confidence, how often the network was right."""

import math
from collections.abc import Sequence

from allmlp.evaluate.calibration import ReliabilityBin
from allmlp.report.axes import LEFT, RIGHT, Axis, frame
from allmlp.report.markup import Html, tag
from allmlp.report.numbers import count, percent

SIDE, FOOT, TOP = 400, 88, 14  # of the square; below it how many images each bin has
TICKS = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)


def reliability_diagram(table: Sequence[ReliabilityBin]) -> Html:
    """Bars: accuracy of each bin. The dashed diagonal: where a calibrated network's bars end. Below: images per bin."""
    bottom = SIDE - FOOT
    x = Axis(0, 100, LEFT, SIDE - RIGHT, TICKS)
    y = Axis(0, 100, bottom, TOP, TICKS)
    most = max((row.count for row in table), default=0)
    return tag(
        "svg",
        frame(x, y, "confidence: probability of the predicted class, %", "%"),
        [_bin(row, x, y, most) for row in table if row.count],
        tag("line", x1=x.start, y1=y.start, x2=x.end, y2=y.end, class_="ideal"),
        viewBox=f"0 0 {SIDE} {SIDE}", role="img", aria_label="Reliability diagram",
    )


def _bin(row: ReliabilityBin, x: Axis, y: Axis, most: int) -> Html:
    left, right = x.at(row.low_percent) + 1, x.at(row.high_percent) - 1
    accuracy, confidence = row.accuracy_percent or 0.0, row.confidence_percent or 0.0
    height = 32 * math.sqrt(row.count / most)  # the root: most images are in the last bin
    said = (f"confidence {percent(row.low_percent, 0)} to {percent(row.high_percent, 0)}: {count(row.count)} images, "
            f"mean confidence {percent(confidence)}, accuracy {percent(accuracy)}")
    return tag(
        "g",
        tag("rect", x=left, y=y.at(accuracy), width=right - left, height=y.start - y.at(accuracy), class_="bar"),
        tag("circle", cx=x.at(confidence), cy=y.at(accuracy), r=3, class_="accent"),
        tag("rect", x=left, y=SIDE - 4 - height, width=right - left, height=height, class_="amount"),
        tag("title", said),
    )
