"""ResMLP without labels: DINO.

    allmlp train imagenet:DIR --recipe resmlp_s12_dino --output runs/dino     (or resmlp_s24_dino)
    allmlp evaluate runs/dino imagenet:DIR --knn 20

Published: k-NN 62.6 % with S12, 69.4 % with S24; linear 67.5 % and 72.8 %; S12 fine-tuned on the labels 76.5 % (ResMLP
Tables 2, 3). Here: not run at this size; `benchmarks/objectives.py` has digits.
Time and hardware: 300 epochs; not published.
Values are the defaults of dino's main_dino.py: AdamW, rate 5e-4 for each 256 images, decay from 0.04 to 0.4, warm-up of
10 epochs, clipping at 3, stochastic depth 0.1, eight local crops of 96 pixels.
UNVERIFIED: which of them ResMLP changed, the batch (1,024 here), and how crops of 96 pixels met a network for 224: here
they are brought to its size.
"""

from allmlp.recipe import Augment, Dino, Expected, Optimizer, Recipe, Schedule

BATCH = 1024
PEAK = 5e-4 * BATCH / 256

S12 = Recipe(
    name="resmlp_s12_dino",
    model="resmlp_12_224",
    data="imagenet",
    augment=Augment(horizontal_flip=0.5),
    optimizer=Optimizer(learning_rate=PEAK, weight_decay=0.04, weight_decay_end=0.4, clip_norm=3.0),
    schedule=Schedule(epochs=300, warmup_epochs=10, final_factor=1e-6 / PEAK),
    dino=Dino(),
    batch_size=BATCH,
    stochastic_depth=0.1,
    stochastic_depth_rule="constant",
    expected=Expected(accuracy=62.6, source="ResMLP Table 2, k-NN", measured=False),
)
S24 = S12.with_(name="resmlp_s24_dino", model="resmlp_24_224",
                expected=Expected(accuracy=69.4, source="ResMLP Table 2, k-NN", measured=False))
RECIPES = (S12, S24)
