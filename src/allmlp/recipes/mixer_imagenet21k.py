"""Mixer pre-training on ImageNet-21k, the start for fine-tuning (`mixer_finetune_imagenet_448` and its kin).

    allmlp train imagenet21k:DIR --recipe mixer_b16_imagenet21k     (or mixer_l16_imagenet21k)

Published, after fine-tuning on ImageNet: B/16 80.64 % at 224 pixels; L/16 82.89 % at 224, 84.15 % at 448 (MLP-Mixer
Tables 2 and 3; values of Table 4). Here: not run at this size.
Time and hardware: 300 epochs took 150 TPUv3-core-days for B/16, 410 for L/16 (Table 3).
UNVERIFIED: the loss (sigmoid, as the authors say of the same pre-training of ViT: vision_transformer issue 34) and the
head's bias (-10, issue 2 there); the end of the linear decay.
"""

from allmlp.recipe import Expected, Loss
from allmlp.recipes.mixer_imagenet import AUGMENT, B16, L16

B16_21K = B16.with_(
    name="mixer_b16_imagenet21k",
    data="imagenet21k",
    augment=AUGMENT.with_(rand_augment_magnitude=10, mixup=0.2),
    loss=Loss(kind="sigmoid", head_bias_init=-10),
    expected=Expected(accuracy=80.64, hardware="150 TPUv3-core-days", measured=False,
                      source="MLP-Mixer Table 3, fine-tuned on ImageNet at 224"),
)
L16_21K = L16.with_(
    name="mixer_l16_imagenet21k",
    data="imagenet21k",
    augment=AUGMENT.with_(rand_augment_magnitude=20, mixup=0.5),
    loss=Loss(kind="sigmoid", head_bias_init=-10),
    expected=Expected(accuracy=82.89, hardware="410 TPUv3-core-days", measured=False,
                      source="MLP-Mixer Table 3, fine-tuned on ImageNet at 224"),
)
RECIPES = (B16_21K, L16_21K)
