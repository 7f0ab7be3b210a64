"""Our smallest Mixer with a stem of convolutions on digit-scenes, from scratch.

    allmlp train digit-scenes --recipe scenes

Published: nothing; the network is ours (docs/experiments.md, "Small models"), and the numbers are those by which the
experiments compare networks, for longer.
Here: not measured yet.
Time and hardware: not measured yet.
UNVERIFIED: nothing was tuned.
"""

from allmlp.recipe import Loss, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="scenes",
    model="mixer_stem_n8_32",
    data="digit-scenes",
    crop_ratio=1.0,
    optimizer=Optimizer(learning_rate=3e-3, weight_decay=0.05),
    schedule=Schedule(epochs=12, warmup_epochs=1),
    loss=Loss(label_smoothing=0.1),
    batch_size=64,
)
