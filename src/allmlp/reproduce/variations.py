"""Variations of one network, each trained alike and measured: what the two experiments on ablations share.

At laptop scale on scikit-learn's digits: images of 8 x 8 pixels in patches of 2 make 16 tokens, and the 360 test digits
are by writers of whom others are learnt too. Training is short on purpose, so that accuracies stay below 100 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from allmlp.backends.network import NetworkPredictor
from allmlp.data.seeds import derived_seed
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.evaluate.probabilities import negative_log_likelihood
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.config import ModelConfig
from allmlp.models.init import seeded
from allmlp.models.model import build
from allmlp.models.variants import default_preprocess
from allmlp.recipe import Affine, Augment, Loss, Optimizer, Recipe, Schedule
from allmlp.reproduce.experiment import Arm, Job, Row
from allmlp.reproduce.learn import learn, open_job
from allmlp.reproduce.spread import at_end
from allmlp.train.start import configured

STEPS, BATCH_SIZE = 250, 64
JITTER = Augment(affine=Affine(degrees=15, translate=0.075, scale=0.15, shear=8.5, outside="black"))  # recipe "digits"

COLUMNS = ("group", "baseline", "published_percent", "published_baseline_percent", "test_accuracy_percent",
           "test_cross_entropy", "parameters", "million_macs", "steps")


@dataclass(frozen=True)
class Variation:
    """One line of the table. `baseline`: the name of the variation that it is to be compared with, its own for none;
    `published` and `published_baseline`: the accuracies of both in the paper, in percent, where it gives them."""

    group: str
    what: str
    baseline: str
    config: ModelConfig
    recipe: Recipe
    published: float | None = None
    published_baseline: float | None = None


def digits_recipe(**fields: Any) -> Recipe:
    """How everything learns at laptop scale, unless a variation is about that: the recipe `digits`, cut short."""
    return Recipe(**{
        "name": "variations", "model": "resmlp_p2_8", "augment": JITTER,
        "optimizer": Optimizer(learning_rate=8e-3, weight_decay=0.05), "loss": Loss(label_smoothing=0.1),
        "schedule": Schedule(steps=STEPS, warmup_steps=STEPS // 10), "batch_size": BATCH_SIZE, **fields})


def arms(job: Job, variations: Sequence[Variation]) -> Iterator[Arm]:
    for seed in range(job.seeds):
        for variation in variations:
            yield Arm(variation.what, seed, partial(measured, job, variation, seed))


def measured(job: Job, variation: Variation, seed: int) -> Mapping[str, Any]:
    """Train one variation and measure it on the test images, which nothing is chosen by."""
    data = open_job(job, "digits")
    recipe = variation.recipe.with_(seed=seed)
    if job.reduced:
        recipe = recipe.with_(schedule=recipe.schedule.with_(steps=2, warmup_steps=1))
    config = configured(variation.config.with_(num_classes=len(data.classes)), recipe)
    preprocess = default_preprocess(recipe.model, config)
    model = build(config, preprocess, data.classes, seeded(derived_seed(seed, "network")))
    judged = learn(model, recipe, data.splits["train"], preprocess=preprocess, device=job.device)
    test = data.splits.get("test") or data.splits["val"]
    found = evaluate_dataset(NetworkPredictor(judged, preprocess, data.classes), test)
    steps = recipe.schedule.steps
    return {
        "group": variation.group,
        "baseline": variation.baseline,
        "published_percent": variation.published,
        "published_baseline_percent": variation.published_baseline,
        "test_accuracy_percent": found.score_percent,
        "test_cross_entropy": float(np.mean(negative_log_likelihood(found.logits, found.labels, "softmax"))),
        "parameters": count_parameters(config),
        "million_macs": count_macs(config) / 1e6,
        "steps": steps,
    }


def by_group(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The names of the variations of each group, both in the order of the table."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        names = groups.setdefault(row["group"], [])
        if row["what"] not in names:
            names.append(row["what"])
    return groups


def first(rows: Sequence[Row], what: str) -> Row:
    """A row of `what`, for what is the same in all of its seeds."""
    return next(row for row in rows if row["what"] == what)


def changes(rows: Sequence[Row], what: str) -> np.ndarray:
    """Accuracy of `what` minus the baseline's, in points, seed by seed: the same seed is the same order of images."""
    baseline = first(rows, what)["baseline"]
    own, its = (at_end(rows, name, "test_accuracy_percent") for name in (what, baseline))
    return np.array(own) - np.array(its)


def published_change(rows: Sequence[Row], what: str) -> float | None:
    row = first(rows, what)
    if row["published_percent"] is None or row["published_baseline_percent"] is None:
        return None
    return row["published_percent"] - row["published_baseline_percent"]
