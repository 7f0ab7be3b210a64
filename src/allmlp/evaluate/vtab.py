"""VTAB-1k by a linear probe: the cheap way, with the benchmark's images and its protocol of 800, 200 and 1,000.

For each of the 19 tasks a logistic regression (`linear.py`) is fitted on the frozen features of 800 images for each C
of `GRID`; the one that names most of the 200 is fitted again on all 1,000 and measured on the whole test part, once.
Images are in the network's own evaluation geometry. The benchmark's own figures, and the papers', are of fine-tuned
networks (`recipes.bit_hyperrule`) and are higher.

The mean of VTAB is that of all 19 accuracies, not that of the three groups.
"""

from collections.abc import Callable, Iterable

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.dataset import Data
from allmlp.data.vtab.tasks import TASKS
from allmlp.errors import BadData
from allmlp.evaluate.linear import fit_linear
from allmlp.evaluate.predict import predict_dataset
from allmlp.evaluate.scores import mean
from allmlp.values import Value

GRID = tuple(10.0**exponent for exponent in range(-5, 2))
GROUPS = ("natural", "specialized", "structured")


class TaskScore(Value):
    """One task: `accuracy_percent` on `images` test images with the chosen `c`, which had `val_percent` of the 200."""

    task: str
    title: str
    group: str
    accuracy_percent: float
    images: int
    c: float
    val_percent: float
    notes: tuple[str, ...] = ()


class VtabTable(Value):
    """What was measured, why each other task was not, and means: of a group None without one of its tasks present.
    `mean_percent` is VTAB's, None unless all 19 are there; `present_percent` that of those that are."""

    scores: tuple[TaskScore, ...]
    missing: dict[str, str]
    group_percent: dict[str, float | None]
    group_tasks: dict[str, tuple[int, int]]  # present, in all
    mean_percent: float | None
    present_percent: float | None


def probe_task(features: Predictor, data: Data, task: str, grid: Iterable[float] = GRID, workers: int = 0) -> TaskScore:
    """One task with `data` as `vtab:TASK` opens it. `features` as from `backends.load_features`. Raises `BadData`."""
    if missing := {"train", "val", "test"} - data.splits.keys():
        raise BadData(f"{data.name} has no {' and no '.join(sorted(missing))} split")
    x = {split: predict_dataset(features, images, workers) for split, images in data.splits.items()}
    labels = {split: images.labels for split, images in data.splits.items()}
    num_classes = len(data.classes)

    def right_percent(c: float, fitted_on: tuple[str, ...], split: str) -> float:
        classify = fit_linear(np.concatenate([x[part] for part in fitted_on]),
                              np.concatenate([labels[part] for part in fitted_on]), num_classes, c)
        return 100 * float((classify(x[split]).argmax(1) == labels[split]).mean())

    found = {c: right_percent(c, ("train",), "val") for c in sorted(grid)}
    best = max(found, key=found.__getitem__)  # of equals the smallest, which holds the weights back most
    return TaskScore(task=task, title=TASKS[task].title, group=TASKS[task].group, images=len(labels["test"]), c=best,
                     accuracy_percent=right_percent(best, ("train", "val"), "test"), val_percent=found[best],
                     notes=data.notes)


def probe_all(features: Predictor, open_task: Callable[[str], Data], *, absent: tuple[type[Exception], ...],
              workers: int = 0, progress: Callable[[str], None] | None = None) -> VtabTable:
    """All tasks that `open_task` opens; one for which it raises `absent` is missing. `progress` is told each name."""
    scores, missing = [], {}
    for task in TASKS:
        if progress is not None:
            progress(task)
        try:
            data = open_task(task)
        except absent as error:
            missing[task] = str(error)
            continue
        scores.append(probe_task(features, data, task, workers=workers))
    return table(scores, missing)


def table(scores: Iterable[TaskScore], missing: dict[str, str]) -> VtabTable:
    """The table of some of the tasks, in the benchmark's order."""
    order = list(TASKS)
    sorted_scores = tuple(sorted(scores, key=lambda score: order.index(score.task)))
    by_group = {group: [score.accuracy_percent for score in sorted_scores if score.group == group] for group in GROUPS}
    every = mean(score.accuracy_percent for score in sorted_scores)
    return VtabTable(
        scores=sorted_scores,
        missing=missing,
        group_percent={group: mean(found) for group, found in by_group.items()},
        group_tasks={group: (len(found), sum(task.group == group for task in TASKS.values()))
                     for group, found in by_group.items()},
        mean_percent=every if len(sorted_scores) == len(TASKS) else None,
        present_percent=every,
    )


def lines(found: VtabTable) -> list[str]:
    """For a terminal."""
    width = max(len(task.title) for task in TASKS.values())
    text = [f"{'task':{width}}  {'group':11}  accuracy   images        C"]
    text += [f"{score.title:{width}}  {score.group:11}  {score.accuracy_percent:7.2f}%{score.images:9,}{score.c:9g}"
             for score in found.scores]
    for group, accuracy in found.group_percent.items():
        present, known = found.group_tasks[group]
        if accuracy is not None:
            text.append(f"{'mean of ' + group:{width}}  {f'{present} of {known}':11}  {accuracy:7.2f}%")
    if found.mean_percent is not None:
        text.append(f"{'VTAB-1k':{width}}  {len(TASKS):<11}  {found.mean_percent:7.2f}%")
    elif found.present_percent is not None:
        text.append(f"mean of {len(found.scores)} tasks present, of {len(TASKS)}: {found.present_percent:.2f}% "
                    "(not VTAB's mean)")
    text += [f"missing: {TASKS[task].title} ({why})" for task, why in found.missing.items()]
    return text + [f"note: {note}" for score in found.scores for note in score.notes]
