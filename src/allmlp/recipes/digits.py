"""A Mixer on scikit-learn's 1,797 digits, from scratch.

    allmlp train digits
"""

from allmlp.recipe import Affine, Augment, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="digits",
    model="mixer_p2_8",
    data="digits",
    augment=Augment(affine=Affine(degrees=10, translate=0.08, scale=0.1, shear=5), mixup=0.2),
    optimizer=Optimizer(learning_rate=3e-3, weight_decay=0.05),
    schedule=Schedule(epochs=150, warmup_epochs=5),
    batch_size=128,
    ema_decay=0.99,
)
