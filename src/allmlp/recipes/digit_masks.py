"""A Mixer that gives every pixel its class, on scenes of digits; and, with larger crops, on a folder with masks.

    allmlp train digit-masks
    allmlp train FOLDER --recipe segment_folder      (images/ and masks/; what such a folder gets anyway)

Published: nothing; the idea is that of MLP-Mixer's readers.
Here: the heads beside a U-Net in results/reproduce/segmentation, after fewer steps; this recipe was not measured whole.
Time and hardware: by its steps some three minutes on one core of a server processor with AVX-512.
UNVERIFIED: the rates, which were not searched for; segment_folder on photographs, of which we had none.
"""

from allmlp.models.segment import DecoderConfig
from allmlp.recipe import Affine, Augment, Optimizer, Recipe, Schedule, Segmentation

RECIPE = Recipe(
    name="digit_masks",
    model="mixer_p4_40",
    data="digit-masks",
    augment=Augment(affine=Affine(degrees=10, translate=0.05, scale=0.1, shear=5)),
    optimizer=Optimizer(learning_rate=4e-3, weight_decay=0.05),
    schedule=Schedule(epochs=20, warmup_epochs=1),
    segmentation=Segmentation(head=DecoderConfig()),
    batch_size=32,
)
FOLDER = RECIPE.with_(
    name="segment_folder", model="mixer_t16_224", data="folder",
    augment=Augment(random_resized_crop=(0.25, 1.0), horizontal_flip=0.5),
    optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.05), schedule=Schedule(epochs=50, warmup_epochs=5),
    batch_size=16,
)
RECIPES = (RECIPE, FOLDER)
