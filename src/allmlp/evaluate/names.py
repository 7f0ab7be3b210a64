"""Class numbers mean nothing without names: labels of a data set are brought into the model's numbering by name."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from allmlp.errors import BadData
from allmlp.weights.labels import words_for_synsets


def align_labels(
    dataset_classes: Sequence[str], model_classes: Sequence[str] | None, labels: np.ndarray
) -> tuple[np.ndarray, str | None]:
    """`labels` in the model's numbering, and a line that tells what was done (None: nothing had to be).

    `labels`: class numbers `(N,)`, or a column for each class `(N, K)`, which is moved. The order may differ, and the
    model may know classes that the data set lacks. A model without class names is taken to have the data set's, in its
    order. ImageNet's folders, "n01440764", are matched with the words of published weights. Raises `BadData`, naming
    what either side lacks, where the data set has a class that the model does not know.
    """
    if model_classes is None:
        return labels, "the model has no class names: its class numbers are taken to be the data set's"
    dataset_classes = words_for_synsets(dataset_classes, model_classes)
    if tuple(dataset_classes) == tuple(model_classes):
        return labels, None
    for whose, names in (("the data set", dataset_classes), ("the model", model_classes)):
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise BadData(f"the class names of {whose} are not unique ({_list(twice)}), so that they cannot be matched "
                          "by name with others; rename them")
    known, present = set(model_classes), set(dataset_classes)
    unknown = [name for name in dataset_classes if name not in known]
    absent = [name for name in model_classes if name not in present]
    if unknown:
        other = f"; the data set lacks {_list(absent)} of the model's" if absent else ""
        raise BadData(f"the data set has classes that the model does not know: {_list(unknown)}{other}; "
                      "evaluate on data with the model's classes, or train on this data")
    number = {name: k for k, name in enumerate(model_classes)}
    moved = np.array([number[name] for name in dataset_classes], np.int64)
    if labels.ndim == 1:
        aligned = moved[labels]
    else:
        aligned = np.zeros((len(labels), len(model_classes)), labels.dtype)
        aligned[:, moved] = labels
    if absent:
        share = f"{len(moved)} of the model's {len(model_classes)} classes"
        return aligned, f"the data set has {share}, without {_list(absent)}"
    return aligned, "the data set's classes stand in another order than the model's; matched by name"


def _list(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
