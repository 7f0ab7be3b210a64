"""What the outputs of published weights mean, in words: from the lists that torchvision and timm ship, never a copy.

ImageNet-1k: torchvision's names ("tench"), which are unique. The larger sets: timm's lists of WordNet synsets, whose
first lemma is the name, followed by the synset where it alone would not be unique: "crane (n02012849)".

The order is everywhere that of the sorted synsets. For ImageNet-1k that is beyond doubt. For Google's 21,843 outputs
and MIIL's 11,221 it is what timm, which serves these very weights, states; Google's own list of the former, the 21,841
synsets of the data set and two without images, was found right by users of BiT (big_transfer issues 7 and 18).
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Literal

LabelSet = Literal["imagenet-1k", "imagenet-21k", "imagenet-21k-p"]

SYNSET = re.compile(r"n\d{8}")

TIMM_SETS: dict[LabelSet, str] = {
    "imagenet-1k": "imagenet-1k",
    "imagenet-21k": "imagenet-21k-goog",  # 21,843 classes
    "imagenet-21k-p": "imagenet-21k-miil",  # 11,221 classes of the autumn 2011 release
}


@cache
def synsets(labels: LabelSet) -> tuple[str, ...]:
    """The WordNet synset of each class, "n01440764", as ImageNet's folders are called."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(TIMM_SETS[labels]).label_names())


@cache
def words(labels: LabelSet) -> tuple[str, ...]:
    """The name of each class; no two are the same."""
    if labels == "imagenet-1k":
        from torchvision.models import ResNet50_Weights

        return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    from timm.data.imagenet_info import ImageNetInfo

    described = ImageNetInfo(TIMM_SETS[labels]).label_descriptions()
    first = [description.partition(", ")[0] for description in described]
    times = Counter(first)
    return tuple(name if times[name] == 1 else f"{name} ({synset})"
                 for name, synset in zip(first, synsets(labels), strict=True))


def words_for_synsets(names: Sequence[str], model_classes: Sequence[str] | None) -> Sequence[str]:
    """A data set's class names as the model knows them: words, where the data set has ImageNet's folder names instead.

    Returned as they are where they are no synsets, or where the model has no words for one of them.
    """
    if model_classes is None or set(names) <= set(model_classes) or not all(map(SYNSET.fullmatch, names)):
        return names
    for labels in TIMM_SETS:
        if tuple(model_classes) == words(labels):
            known = dict(zip(synsets(labels), words(labels), strict=True))
            return [known[name] for name in names] if set(names) <= known.keys() else names
    return names
