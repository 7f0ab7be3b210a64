"""Mixer pre-training on hundreds of millions of images with noisy labels, as on JFT-300M, which is not public.

    allmlp train shards:'DIR/{00000..30000}.tar' --recipe mixer_b16_jft

Crops and flips are all the augmentation there is: the data itself is enough. For other web data keep the number of
steps (`--set schedule.steps=512700` for 7 epochs of 300 million images), as the paper does for parts of JFT.
Published, after fine-tuning on ImageNet at 224 pixels (MLP-Mixer Table 3), with TPUv3-core-days: the table below.
H/14 reaches 87.94 % at 448 pixels (Table 2). Here: not run at this size.
Time and hardware: the last column, on TPUv3.
UNVERIFIED: the loss (sigmoid for several labels, as the authors say of ViT) and the head's bias (-10); the end of the
linear decay; stochastic depth and dropout of these rows, which Table 4 leaves empty, are taken as off.
"""

from typing import NamedTuple

from allmlp.recipe import Augment, Expected, Loss, Optimizer, Recipe, Schedule


class Row(NamedTuple):
    """One line of the paper's Tables 3 and 4."""

    model: str
    epochs: int
    learning_rate: float
    accuracy: float
    core_days: int


ROWS = {
    "mixer_s32_jft": Row("mixer_s32_224", 5, 3e-3, 68.70, 10),
    "mixer_s16_jft": Row("mixer_s16_224", 5, 3e-3, 73.83, 30),
    "mixer_b32_jft": Row("mixer_b32_224", 7, 3e-3, 75.53, 50),
    "mixer_b16_jft": Row("mixer_b16_224", 7, 3e-3, 80.00, 80),
    "mixer_l32_jft": Row("mixer_l32_224", 7, 1e-3, 80.67, 120),
    "mixer_l16_jft": Row("mixer_l16_224", 7, 1e-3, 84.05, 230),
    "mixer_l16_jft_14_epochs": Row("mixer_l16_224", 14, 1e-3, 84.82, 450),
    "mixer_h14_jft": Row("mixer_h14_224", 14, 1e-3, 86.32, 1010),
}


def recipe(name: str, row: Row) -> Recipe:
    return Recipe(
        name=name,
        model=row.model,
        data="shards",
        augment=Augment(random_resized_crop=(0.05, 1.0), random_crop_kind="inception", horizontal_flip=0.5),
        optimizer=Optimizer(learning_rate=row.learning_rate, weight_decay=0.03, clip_norm=1.0),
        schedule=Schedule(epochs=row.epochs, warmup_steps=10_000, decay="linear", final_factor=1e-5, rule="google"),
        loss=Loss(kind="sigmoid", head_bias_init=-10),
        batch_size=4096,
        expected=Expected(accuracy=row.accuracy, hardware=f"{row.core_days} TPUv3-core-days", measured=False,
                          source="MLP-Mixer Table 3, fine-tuned on ImageNet at 224"),
    )


RECIPES = tuple(recipe(name, row) for name, row in ROWS.items())
