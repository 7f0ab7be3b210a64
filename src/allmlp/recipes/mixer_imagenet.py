"""Mixer from scratch on ImageNet, with the paper's regularisation.

    allmlp train imagenet:DIR --recipe mixer_b16_imagenet     (or mixer_l16_imagenet)

Published: B/16 76.44 %, L/16 71.76 % top-1 (MLP-Mixer Table 3; values of Table 4). L/16 overfits: more data, not more
network. Here: not run at this size.
Time and hardware: 300 epochs took 10 TPUv3-core-days for B/16, 40 for L/16 (Table 3).
UNVERIFIED: the loss (not stated; sigmoid with a head bias of -6.9 is the authors' later code) and the end of the linear
decay (1e-5 of the peak in that code). The magnitude of RandAugment, 15, is on a scale whose full strength is 10.
Whether stochastic depth was rescaled (their code does not). `mixer_b16_imagenet_big_vision` is the later code's recipe.
"""

from allmlp.recipe import Augment, Expected, Loss, Optimizer, Recipe, Schedule

AUGMENT = Augment(random_resized_crop=(0.05, 1.0), random_crop_kind="inception", horizontal_flip=0.5, rand_augment=2,
                  rand_augment_kind="google", rand_augment_magnitude=15, mixup=0.5, mixup_kind="google")
SCHEDULE = Schedule(epochs=300, warmup_steps=10_000, decay="linear", final_factor=1e-5, rule="google")

B16 = Recipe(
    name="mixer_b16_imagenet",
    model="mixer_b16_224",
    data="imagenet",
    augment=AUGMENT,
    optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.1, clip_norm=1.0),
    schedule=SCHEDULE,
    loss=Loss(kind="sigmoid", head_bias_init=-6.9),
    batch_size=4096,
    stochastic_depth=0.1,
    stochastic_depth_rule="mlp",
    expected=Expected(accuracy=76.44, hardware="10 TPUv3-core-days", source="MLP-Mixer Table 3", measured=False),
)
L16 = B16.with_(
    name="mixer_l16_imagenet",
    model="mixer_l16_224",
    expected=Expected(accuracy=71.76, hardware="40 TPUv3-core-days", source="MLP-Mixer Table 3", measured=False),
)
RECIPES = (B16, L16)
