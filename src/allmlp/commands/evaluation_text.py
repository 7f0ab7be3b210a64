"""What `allmlp evaluate` found, in lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from allmlp.errors import printable
from allmlp.evaluate.avg5 import AVG5
from allmlp.evaluate.classification import Metrics
from allmlp.evaluate.dataset import Evaluation
from allmlp.evaluate.fewshot import FewShot
from allmlp.evaluate.real import RealMetrics
from allmlp.evaluate.temperature import Temperature


def lines(found: Evaluation, split: str, notes: list[str], per_class: bool) -> list[str]:
    metrics = found.metrics
    text = [*notes, *([found.note] if found.note else [])]
    if isinstance(metrics, Metrics):
        text.append(f"{split} accuracy {percent(metrics.top1_percent)} on {metrics.count:,} images "
                    f"{interval(metrics.top1_interval_percent)}")
        if metrics.top5_percent is not None:
            text.append(f"top-5 {percent(metrics.top5_percent)}")
        text.append(f"balanced accuracy {percent(metrics.balanced_accuracy_percent)}, "
                    f"macro F1 {percent(metrics.macro_f1_percent)}, "
                    f"calibration error {percent(metrics.calibration_error_percent)}")
    else:
        text.append(f"{split} mAP {percent(metrics.mean_average_precision_percent)} on {metrics.count:,} images, "
                    f"micro F1 {percent(metrics.micro_f1_percent)}, macro F1 {percent(metrics.macro_f1_percent)}, "
                    f"all labels right {percent(metrics.exact_match_percent)}")
    if per_class:
        width = max(len(row.name) for row in metrics.classes)
        text.append(f"{'class':{width}}  precision   recall       F1   images")
        text += [f"{printable(row.name):{width}}  {percent(row.precision_percent):>9}{percent(row.recall_percent):>9}"
                 f"{percent(row.f1_percent):>9}{row.support:>9,}" for row in metrics.classes]
    return text


def few_shot(found: Sequence[FewShot], result: Mapping[str, Any]) -> list[str]:
    text = [*result["notes"], f"by {result['classifier']}, not by the network's head"]
    for each in found:
        spread = "" if each.deviation_percent is None else f" ± {each.deviation_percent:.2f}"
        draws = "1 draw" if spread == "" else f"{len(each.accuracies_percent)} draws"
        chosen = ", chosen on further training images" if result["l2_chosen_on"] else ""
        text.append(f"{result['split']} accuracy {each.mean_percent:.2f}{spread} % with {each.shots} images of each "
                    f"class, over {draws}, on {result['count']:,} images (L2 {each.l2:g}{chosen})")
    return text


def real(found: RealMetrics | None) -> list[str]:
    if found is None:
        return []
    return [f"ReaL accuracy {percent(found.accuracy_percent)} on {found.count:,} images "
            f"{interval(found.interval_percent)}; {found.skipped:,} without a label skipped"]


def temperature(found: Temperature | None) -> list[str]:
    if found is None:
        return []
    (nats, nats_after), (error, error_after) = found.negative_log_likelihood, found.calibration_error_percent
    return [f"temperature {found.temperature:.4g}, fitted on {found.fitted_on} ({found.fitted_images:,}); on the "
            f"{found.measured_images:,} others: calibration error {percent(error)} becomes {percent(error_after)}, "
            f"negative log-likelihood {nats:.4f} becomes {nats_after:.4f}"]


def means(count: int, found: Mapping[str, float | None]) -> str:
    if found["avg5_percent"] is not None:
        return f"Avg-5 ({', '.join(AVG5)}) {percent(found['avg5_percent'])}"
    return f"mean top-1 of these {count}, which are not the five of Avg-5: {percent(found['mean_top1_percent'])}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"


def interval(found: tuple[float, float] | None) -> str:
    low, high = found or (0.0, 0.0)
    return f"(95 % interval {low:.2f} to {high:.2f} %)"
