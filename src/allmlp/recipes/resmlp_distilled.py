"""ResMLP taught by a RegNetY-16GF: the class it names counts as much as the label.

    allmlp train imagenet:DIR --recipe resmlp_s12_imagenet_distilled     (s24, s36, b24: patch 8)

Published: S12 77.8 %, S24 80.8 %, S36 81.1 %, B24/8 83.6 % top-1 (deit's README_resmlp.md). The teacher, timm's
`regnety_160.deit_in1k`, has 82.9 (ResMLP Table 1); any network of timm or of ours may teach:
`--set distillation.teacher=NAME`. Here: not run at this size.
Time and hardware: not published; the teacher adds its forward pass to `resmlp_s12_imagenet`'s 2 days on 8 V100.
Sources: ResMLP App. A and DeiT's losses.py, half label and half teacher; otherwise `resmlp_s12_imagenet` and its kin.
UNVERIFIED: that both terms take the same logits. DeiT has a second head for the teacher's; ResMLP has one head, and the
trainer that was released cannot run it.
"""

from allmlp.recipe import Distillation, Expected, Recipe
from allmlp.recipes.resmlp_imagenet import B24, S12, S24, S36


def _distilled(recipe: Recipe, accuracy: float, **changes) -> Recipe:
    expected = Expected(accuracy=accuracy, source="deit README_resmlp.md", measured=False)
    return recipe.with_(name=f"{recipe.name}_distilled", distillation=Distillation(), expected=expected, **changes)


RECIPES = (_distilled(S12, 77.8), _distilled(S24, 80.8), _distilled(S36, 81.1),
           _distilled(B24, 83.6, model="resmlp_big_24_224"))
