"""Sharpness-aware Mixers from scratch on ImageNet, with crops and flips only.

    allmlp train imagenet:DIR --recipe mixer_b16_imagenet_sam     (or mixer_b32_imagenet_sam)

Published: SAM adds 11.0 points to Mixer-B/16 with such augmentation (abstract of arXiv 2106.01548); weights are
released (`mixer_b16_224.goog_sam_in1k`, `mixer_b32_224.goog_sam_in1k`), their accuracies UNVERIFIED. Here: not run at
this size; `benchmarks/objectives.py` has digits.
Time and hardware: 64 TPU chips (an author, vision_transformer issue 153); each step costs two.
UNVERIFIED: every number, as no config was released: the radius (0.6 for B/16, 0.35 for B/32; an author advises a larger
one on fewer machines, since each had its own perturbation, and ours perturbs once for the whole batch), the rate of
3e-3, the decay of 0.3, the linear end, softmax.
"""

from allmlp.recipe import Augment, Loss, Optimizer, Recipe, Schedule


def recipe(size: str, rho: float) -> Recipe:
    return Recipe(
        name=f"mixer_{size}_imagenet_sam",
        model=f"mixer_{size}_224",
        data="imagenet",
        augment=Augment(random_resized_crop=(0.05, 1.0), random_crop_kind="inception", horizontal_flip=0.5),
        optimizer=Optimizer(learning_rate=3e-3, weight_decay=0.3, clip_norm=1.0, sam_rho=rho),
        schedule=Schedule(epochs=300, warmup_steps=10_000, decay="linear", final_factor=1e-5, rule="google"),
        loss=Loss(kind="softmax"),
        batch_size=4096,
    )


RECIPES = (recipe("b16", 0.6), recipe("b32", 0.35))
