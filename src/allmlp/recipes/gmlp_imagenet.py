"""gMLP from scratch on ImageNet.

    allmlp train imagenet:DIR --recipe gmlp_s16_imagenet     (ti16, b16)

Published: Ti 72.3 %, S 79.6 %, B 81.6 % top-1 (gMLP, arXiv 2105.08050, Table 2). Here: not run at this size.
Time and hardware: not published.
Values: the paper's Table 7: AdamW at 1e-3 with a cosine, epsilon 1e-6, 10,000 steps of warm-up, AutoAugment, mixup and
CutMix, no erasing and no repeats.
UNVERIFIED: all of it, as we had the paper through summaries; that stochastic depth (survival 1, 0.95, 0.8) is the same
in every block; the crop's range of areas.
"""

from allmlp.recipe import Augment, Expected, Loss, Optimizer, Recipe, Schedule


def recipe(size: str, survival: float, accuracy: float) -> Recipe:
    return Recipe(
        name=f"gmlp_{size}_imagenet",
        model=f"gmlp_{size}_224",
        data="imagenet",
        augment=Augment(random_resized_crop=(0.08, 1.0), horizontal_flip=0.5, auto_augment=True, mixup=0.8, cutmix=1.0),
        optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.05, epsilon=1e-6, clip_norm=1.0),
        schedule=Schedule(epochs=300, warmup_steps=10_000, decay="cosine", rule="google"),
        loss=Loss(label_smoothing=0.1),
        batch_size=4096,
        stochastic_depth=round(1 - survival, 6),
        stochastic_depth_rule="constant",
        expected=Expected(accuracy=accuracy, source="gMLP Table 2 (secondary)", measured=False),
    )


RECIPES = (recipe("ti16", 1.0, 72.3), recipe("s16", 0.95, 79.6), recipe("b16", 0.8, 81.6))
