"""A Mixer on scikit-learn's 1,797 digits, from scratch.

    allmlp train digits
"""

from allmlp.recipe import Affine, Augment, Loss, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="digits",
    model="mixer_p2_8",
    data="digits",
    augment=Augment(affine=Affine(degrees=15, translate=0.075, scale=0.15, shear=8.5, outside="black"), mixup=0.2),
    optimizer=Optimizer(learning_rate=8e-3, weight_decay=0.1, betas=(0.9, 0.99)),
    schedule=Schedule(epochs=75, warmup_epochs=5),
    loss=Loss(label_smoothing=0.1),
    batch_size=128,
    ema_decay=0.99,
)
