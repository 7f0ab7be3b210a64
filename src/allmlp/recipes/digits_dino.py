"""The digits without their labels: DINO, then k-NN, a linear probe or fine-tuning on what it learnt.

    allmlp train digits --recipe digits_dino --output runs/dino
    allmlp evaluate runs/dino digits --knn 20
    allmlp evaluate runs/dino digits --linear-probe
    allmlp train digits --init runs/dino

Published: nothing.
Here: with the labels of 10 images a class, fine-tuning 92.22 ± 1.00 % (91.11 ± 1.11 % from scratch at equal epochs),
linear probe 76.94 ± 2.47 % (73.70 ± 2.05 % on fresh weights), k-NN 73.70 ± 2.10 % (67.13 ± 1.76 %), over 3 seeds
(`python benchmarks/objectives.py`, results/objectives.csv). It learns a little, not much: stronger crops or a warmer
teacher collapse (docs/log.md). Local crops are left out for the time they take.
Time and hardware: 45 seconds of one core of a server processor.
UNVERIFIED: longer training.
"""

from allmlp.recipe import Affine, Augment, Dino, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="digits_dino",
    model="mixer_p2_8",
    data="digits",
    augment=Augment(affine=Affine(degrees=8, translate=0.075, scale=0.08, shear=4, outside="black")),
    dino=Dino(out_dim=64, head_hidden=128, bottleneck=64, last_layer_frozen_epochs=1, teacher_temperature=(0.02, 0.03),
              teacher_temperature_warmup_epochs=8, teacher_momentum=0.99, global_crops=(0.7, 1.0), local_crops=0,
              local_scale=(0.4, 0.8), local_image_size=None, colour=False),
    optimizer=Optimizer(learning_rate=5e-4, weight_decay=0.04, weight_decay_end=0.4),
    schedule=Schedule(epochs=20, warmup_epochs=2),
    batch_size=128,
)
