"""Our smallest Mixer with a stem of convolutions on digit-scenes, from scratch.

    allmlp train digit-scenes --recipe scenes

Published: nothing; the network is ours (docs/experiments.md, "Small models"), and the numbers are those by which the
experiments compare networks, for longer.
Here: test accuracy 97.9 ± 0.6 % over 3 seeds (`allmlp reproduce small-models`, results/reproduce/small-models).
Time and hardware: 65 to 74 seconds of processor time on one busy core of a server processor with AVX-512.
UNVERIFIED: nothing was tuned, so neither the network nor the recipe is at its best.
"""

from allmlp.recipe import Expected, Loss, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="scenes",
    model="mixer_stem_n8_32",
    data="digit-scenes",
    crop_ratio=1.0,
    optimizer=Optimizer(learning_rate=3e-3, weight_decay=0.05),
    schedule=Schedule(epochs=12, warmup_epochs=1),
    loss=Loss(label_smoothing=0.1),
    batch_size=64,
    expected=Expected(accuracy=97.9, spread=0.6, seeds=3, minutes=1.2, hardware="one core, AVX-512",
                      source="results/reproduce/small-models"),
)
