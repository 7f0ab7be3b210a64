"""The top of the page: what was trained, and how good it is."""

from allmlp.evaluate import Metrics, MultiLabelMetrics, SegmentationMetrics
from allmlp.inspection.flops import count_parameters
from allmlp.report.content import RunReport
from allmlp.report.markup import Html, tag
from allmlp.report.numbers import NOTHING, SPACE, count, duration, known, large, percent


def headline(run: RunReport) -> Html:
    when = run.finished.isoformat(" ", "minutes")[:16]
    seconds = known(run.history[-1].get("seconds")) if run.history else None
    trained = [] if seconds is None else [f"trained in {duration(seconds)}"]
    epochs = [f"{count(len(run.history))} epoch{'' if len(run.history) == 1 else 's'}"] if run.history else []
    return tag(
        "header",
        tag("h1", run.model_name, tag("span", " on "), run.data_name),
        tag("p", " · ".join([when, *epochs, *trained])),
        tag("div", _score(run), tag("div", [_tile(*tile) for tile in _tiles(run)], class_="tiles"), class_="headline"),
    )


def _score(run: RunReport) -> Html | None:
    metrics = run.metrics
    if metrics is None:
        return None
    over = f"{run.split}, {count(metrics.count)} image{'' if metrics.count == 1 else 's'}"
    if isinstance(metrics, SegmentationMetrics):
        value, name, interval = metrics.mean_iou_percent, "mean IoU", None
    elif isinstance(metrics, MultiLabelMetrics):
        value, name, interval = metrics.mean_average_precision_percent, "mean average precision", None
    else:
        value, name, interval = metrics.top1_percent, "accuracy", metrics.top1_interval_percent
    spread = None if interval is None else f"95{SPACE}% interval {percent(interval[0])} to {percent(interval[1])}"
    lines = [tag("span", line) for line in (f"{name} ({over})", spread) if line]
    return tag("div", tag("b", percent(value, 2)), lines, class_="score")


def _tiles(run: RunReport) -> list[tuple[str, str]]:
    """(value, what it is) of the smaller numbers."""
    metrics = run.metrics
    tiles = []
    if isinstance(metrics, Metrics):
        if metrics.top5_percent is not None:
            tiles.append((percent(metrics.top5_percent, 2), "top-5 accuracy"))
        tiles += [
            (percent(metrics.balanced_accuracy_percent), "balanced accuracy"),
            (percent(metrics.macro_f1_percent), "macro F1"),
            (_nats(metrics.negative_log_likelihood), "loss, nats per image"),
            (percent(metrics.calibration_error_percent), "calibration error"),
        ]
        if metrics.count:
            most = max(row.support for row in metrics.classes)
            tiles.append((percent(100 * most / metrics.count), "guessing the largest class"))
    elif isinstance(metrics, MultiLabelMetrics):
        tiles += [
            (percent(metrics.exact_match_percent), "images with every label right"),
            (percent(metrics.micro_f1_percent), "micro F1 at 0.5"),
            (percent(metrics.macro_f1_percent), "macro F1 at 0.5"),
            (_nats(metrics.negative_log_likelihood), "loss, nats per image"),
        ]
    elif isinstance(metrics, SegmentationMetrics):
        tiles += [
            (percent(metrics.pixel_accuracy_percent, 2), "pixel accuracy"),
            (percent(metrics.boundary_iou_percent), "boundary IoU"),
            (_nats(metrics.negative_log_likelihood), "loss, nats per pixel"),
        ]
    return [*tiles, (large(count_parameters(run.model)), "parameters")]


def _tile(value: str, what: str) -> Html:
    return tag("div", tag("b", value), tag("span", what))


def _nats(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
