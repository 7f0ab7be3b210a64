"""ResMLP from scratch on ImageNet: LAMB, DeiT's augmentation, 400 epochs.

    allmlp train imagenet:DIR --recipe resmlp_s12_imagenet     (s24, s36, b24)

Published: S12 76.6 %, S24 79.4 %, S36 79.7 %, B24 with patch 16 81.0 % top-1 (ResMLP Tables 3 and D.3). Without mixup
and CutMix S12 has 76.0, then without erasing 75.9, without RandAugment 73.2 (Table D.1). Here: not run at this size.
Time and hardware: about 2 days on 8 V100 for S12 (author, deit issue 106), float32.
Sources: ResMLP section 3.1, the author in deit issue 106, the rest DeiT's main.py: the warm-up begins at 1e-6, the
cosine ends at 1e-5, and the weights' plain average is kept with 0.99996. DeiT reports the last weights all the same, we
the average; `--set ema_decay=none` does as DeiT.
UNVERIFIED: stochastic depth of all but S12 (0.1, 0.2, 0.2, in the way of CaiT); that 5e-3 is the rate itself and not
scaled by the batch; clipping at 1 (FusedLAMB's and timm's default); which parameters are decayed (kernels here;
`optimizer.decay_mask=dimensions` is what DeiT's trainer does with Aff); LayerScale's start in B24.
"""

from allmlp.recipe import Augment, Expected, Loss, Optimizer, Recipe, Schedule

PEAK = 5e-3
AUGMENT = Augment(
    random_resized_crop=(0.08, 1.0), horizontal_flip=0.5, rand_augment=2, rand_augment_kind="timm",
    rand_augment_magnitude=9, random_erasing=0.25, random_erasing_kind="noise", mixup=0.8, mixup_kind="timm",
    cutmix=1.0, cutmix_probability=0.5, repeated=3)


def recipe(name: str, model: str, stochastic_depth: float, accuracy: float) -> Recipe:
    return Recipe(
        name=name,
        model=model,
        data="imagenet",
        augment=AUGMENT,
        optimizer=Optimizer(name="lamb", learning_rate=PEAK, weight_decay=0.2, clip_norm=1.0),
        schedule=Schedule(epochs=400, warmup_epochs=5, warmup_factor=1e-6 / PEAK, final_factor=1e-5 / PEAK,
                          rule="timm"),
        loss=Loss(label_smoothing=0.1),
        batch_size=2048,
        stochastic_depth=stochastic_depth,
        stochastic_depth_rule="constant",
        ema_decay=0.99996,
        ema_warmup=False,
        expected=Expected(accuracy=accuracy, source="ResMLP Tables 3, D.3", measured=False,
                          hardware="8 V100, 2 days" if "s12" in name else ""),
    )


S12 = recipe("resmlp_s12_imagenet", "resmlp_12_224", 0.05, 76.6)
S24 = recipe("resmlp_s24_imagenet", "resmlp_24_224", 0.1, 79.4)
S36 = recipe("resmlp_s36_imagenet", "resmlp_36_224", 0.2, 79.7)
B24 = recipe("resmlp_b24_imagenet", "resmlp_big_24_p16_224", 0.2, 81.0)
RECIPES = (S12, S24, S36, B24)
