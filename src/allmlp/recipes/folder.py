"""A folder of images, from scratch: a sound start, for data of which nothing is known.

    allmlp train FOLDER

Mixers need much data: from scratch on a few thousand photographs expect far less than from pretrained weights. The
network is chosen by the size of the images (see `recipes.choose`). Not tuned, and no result is claimed: what it reaches
depends on the images, and so does the time.
"""

from allmlp.recipe import Augment, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    name="folder",
    model="mixer_t16_224",
    data="folder",
    augment=Augment(random_resized_crop=(0.25, 1.0), horizontal_flip=0.5, rand_augment=2, random_erasing=0.25,
                    mixup=0.2, cutmix=1.0),
    optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.05),
    schedule=Schedule(epochs=100, warmup_epochs=5),
    batch_size=64,
    ema_decay=0.998,
)
