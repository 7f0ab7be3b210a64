"""BiT-HyperRule: fine-tuning whose numbers follow from how many images there are and how large they are.

    allmlp train vtab:pets --recipe bit_hyperrule_vtab_large --init mixer_l16_224.goog_in21k --lr 0.01
    allmlp train vtab:pets+val --recipe bit_hyperrule_vtab_large …         the same on all 1,000 images, tested once
    allmlp train vtab:svhn --recipe bit_hyperrule_vtab_small …             images below 96 x 96: CIFAR-100, SVHN,
                                                                           EuroSAT, dSprites
SGD with momentum 0.9 and batches of 512, no decay of weights; a rate of 0.003 that warms up and is divided by ten three
times. Images of less than 96 x 96 pixels are resized to 160 and cropped to 128, others to 448 and 384. Below 20,000
images 500 steps, below 500,000 10,000, else 20,000; mixup of 0.1 from 20,000 images on. `recipe` gives that for any
data.
For VTAB the MLP-Mixer paper names this rule, with 224 pixels for small images and 448 for large ones, and tries the
rates 0.003, 0.01 and 0.03 on the 200 images: the two recipes are so.
Published: VTAB-1k mean 74.95 % with L/16 from ImageNet-21k, 75.33 % with H/14 from JFT-300M (MLP-Mixer Table 2), mean
of three runs. Here: not run on these data.
Time and hardware: not published for VTAB; 500 steps of 512 images are 0.2 epochs of ImageNet a task.
UNVERIFIED: how many steps the Mixers took on VTAB (App. C takes ViT's setup, which has 2,500 along a cosine: the recipe
`mixer_finetune_vtab`; this rule has 500); whether images were cropped and mirrored at 224 and 448 pixels as BiT does at
128 and 384: for VTAB BiT leaves both out where they would change the answer; here all images are resized and nothing
else, as in ViT's VTAB. Mixup's partner is the image before in the batch, BiT's a random one. BiT shows test images
resized to 128 or 384, here they are the middle of 160 or 448, as in MLP-Mixer's other fine-tuning.
"""

from allmlp.recipe import Augment, Expected, Optimizer, Recipe, Schedule

SMALL_PX = 96  # images of a smaller area than its square are small
RATES = (0.003, 0.01, 0.03)  # the Mixers' grid on VTAB
MILESTONES = {500: (100, (200, 300, 400)), 10_000: (500, (3_000, 6_000, 9_000)),
              20_000: (500, (6_000, 12_000, 18_000))}  # steps: warm-up, and where the rate falls to a tenth
MIXUP_FROM = 20_000


def num_steps(num_images: int) -> int:
    return 500 if num_images < 20_000 else 10_000 if num_images < 500_000 else 20_000


def recipe(data: str, num_images: int, image_px: tuple[int, int], **changes) -> Recipe:
    """The rule for `num_images` training images of `image_px` (H, W) pixels; `changes` to any field."""
    small = image_px[0] * image_px[1] < SMALL_PX**2
    resized, cropped = (160, 128) if small else (448, 384)
    steps = num_steps(num_images)
    warmup, milestones = MILESTONES[steps]
    fields = {
        "name": f"bit_hyperrule_{data}",
        "model": "mixer_b16_224",
        "init": "mixer_b16_224.goog_in21k",
        "data": data,
        "image_size": (cropped, cropped),
        "resize": "squash_crop",
        "crop_ratio": cropped / resized,
        "interpolation": "bilinear",
        "augment": Augment(random_crop=True, horizontal_flip=0.5, mixup=0.1 if num_images >= MIXUP_FROM else 0.0),
        "optimizer": Optimizer(name="sgd", learning_rate=0.003, momentum=0.9, weight_decay=0.0, clip_norm=None),
        "schedule": Schedule(steps=steps, warmup_steps=warmup, decay="steps", milestones=milestones, rule="google"),
        "batch_size": 512,
    }
    return Recipe(**{**fields, **changes})


def _vtab(size: str, side: int, image_px: int, expected: Expected | None) -> Recipe:
    rule = recipe("vtab", 1_000, (image_px, image_px), name=f"bit_hyperrule_vtab_{size}", expected=expected)
    return rule.with_(image_size=(side, side), resize="squash", crop_ratio=None, augment=Augment())


TABLE = Expected(accuracy=74.95, source="MLP-Mixer Table 2, L/16, all 19 tasks", measured=False)
RECIPES = (_vtab("small", 224, 32, None), _vtab("large", 448, 256, TABLE))
