"""ResMLP-B24/8 on ImageNet-21k, then fine-tuned on ImageNet.

    allmlp train imagenet21k:DIR --recipe resmlp_b24_imagenet21k --output runs/21k
    allmlp train imagenet:DIR --recipe resmlp_b24_imagenet21k_to_1k --init runs/21k

Published: 84.4 % top-1 on ImageNet after 60 epochs on ImageNet-21k and fine-tuning (ResMLP Table 3). Here: not run at
this size.
Time and hardware: not published; an epoch of ImageNet-21k is eleven of ImageNet.
UNVERIFIED: everything but the 60 epochs. Pre-training has `resmlp_b24_imagenet`'s values; fine-tuning has its
augmentation, AdamW with the decay that the author gives for CIFAR, 30 epochs and a rate of 5e-5, our guess.
"""

from allmlp.recipe import Expected, Optimizer, Schedule
from allmlp.recipes.resmlp_imagenet import B24

PRETRAINING = B24.with_(
    name="resmlp_b24_imagenet21k",
    model="resmlp_big_24_224",
    data="imagenet21k",
    schedule=B24.schedule.with_(epochs=60),
    expected=None,
)
FINE_TUNING = B24.with_(
    name="resmlp_b24_imagenet21k_to_1k",
    model="resmlp_big_24_224",
    optimizer=Optimizer(learning_rate=5e-5, weight_decay=0.05, clip_norm=None),
    schedule=Schedule(epochs=30, warmup_epochs=5, rule="timm"),
    batch_size=1024,
    expected=Expected(accuracy=84.4, source="ResMLP Table 3", measured=False),
)
RECIPES = (PRETRAINING, FINE_TUNING)
