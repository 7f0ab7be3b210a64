"""Does a Mixer see like a ViT or like a ResNet? (Raghu et al., "Do Vision Transformers See Like Convolutional Neural
Networks?", arXiv 2108.08810.)

Of each trained network, along its depth: how alike its layers are (linear CKA), which pixels a token depends on
(effective receptive field), what residual branches add to what passes by (skip ratios), whether a token still tells
what stands at its place (localisation), and how well the classes can be read off a layer (linear probes). The measures
are in `allmlp.inspection`; what is drawn of them in `see_figure.py`, what is concluded in `see_found.py`.

A row is a layer; the last one of an arm is the network as a whole. Maps stand in cells as numbers with spaces between.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from allmlp.data.dataset import ImageDataset, Subset
from allmlp.data.seeds import generator
from allmlp.evaluate.fewshot import draw_shots, few_shot_accuracies
from allmlp.files import load_tensors, save_tensors
from allmlp.inspection.branches import skip_ratios
from allmlp.inspection.localisation import localisation, own_and_others
from allmlp.inspection.mixing_distance import mixing_distances
from allmlp.inspection.outputs import as_tokens, block_names, layer_names, layer_outputs
from allmlp.inspection.receptive_field import mean_distance, receptive_field, token_grid
from allmlp.inspection.similarity import cka_map
from allmlp.models.model import Model
from allmlp.preprocess import Preprocess, fit, to_network_input
from allmlp.reproduce.experiment import Arm, Experiment, Job
from allmlp.reproduce.learn import learn, open_job
from allmlp.reproduce.see_figure import figure
from allmlp.reproduce.see_found import found
from allmlp.reproduce.small import NETWORKS, PREPROCESS, accuracy_percent, recipe

PUBLISHED = {"Mixer": "mixer_b16_224.goog_in1k", "ViT": "timm:vit_base_patch16_224.augreg_in1k",
             "ResNet": "timm:resnet50.a1_in1k"}
STEPS = 300
BATCH, BATCHES = 128, 8  # images of which CKA is taken; Raghu et al. note 128 in 20 batches as enough
FIELD_IMAGES = 32
SHOTS, DRAWS = 10, 3
COLUMNS = ("network", "layer", "depth", "test_accuracy_percent", "probe_percent", "skip_ratio", "field_px", "mixing_px",
           "own_patch_cka", "other_patches_cka", "parameters", "similarity", "similarity_to_mixer", "field")


@dataclass(frozen=True)
class Subject:
    """A trained network, how it wants images, and which of its layers are compared."""

    network: nn.Module
    preprocess: Preprocess
    layers: tuple[str, ...]
    accuracy_percent: float | None

    @property
    def skip(self) -> int:
        """Class tokens in front."""
        return int(getattr(self.network, "num_prefix_tokens", 0))


def arms(job: Job) -> Iterator[Arm]:
    for seed in range(job.seeds if job.scale == "laptop" else 1):
        for name in NETWORKS:
            yield Arm(name, seed, partial(look, job, name, seed))


def look(job: Job, name: str, seed: int) -> Iterator[Mapping[str, Any]]:
    """A row for each layer, the measures of blocks with their blocks; then the whole network."""
    data = open_job(job, "digit-scenes")
    test, train = data.splits.get("test") or data.splits["val"], data.splits["train"]
    subject = opened(job, name, seed, train, test)
    batches = list(drawn_batches(test, subject.preprocess, 2 if job.reduced else BATCHES))
    same = alike(subject, subject, batches)
    mixers = None if name == "Mixer" else alike(subject, opened(job, "Mixer", seed, train, test), batches)
    blocks = of_blocks(subject, batches[0], keep_field=seed == 0)
    for block, probe in probes(subject, train, test).items():
        blocks[block]["probe_percent"] = probe
    for index, layer in enumerate(subject.layers):
        yield {"network": name, "layer": layer, "depth": index / (len(subject.layers) - 1), **blocks.get(layer, {}),
               "similarity": as_cell(same[index]) if seed == 0 else None,
               "similarity_to_mixer": as_cell(mixers[index]) if mixers is not None else None}
    last = blocks[block_names(subject.network)[-1]]
    yield {"network": name, "layer": "", "test_accuracy_percent": subject.accuracy_percent,
           "parameters": sum(parameter.numel() for parameter in subject.network.parameters()),
           "skip_ratio": float(np.median([row["skip_ratio"] for row in blocks.values()])),
           **{key: last.get(key) for key in ("field_px", "mixing_px", "own_patch_cka", "other_patches_cka",
                                             "probe_percent")}}


def opened(job: Job, name: str, seed: int, train: ImageDataset, test: ImageDataset) -> Subject:
    """The network of an arm: trained, or as another arm has left it in the job's folder; at paper scale published."""
    if job.scale == "paper":
        from allmlp.compare.contenders import open_contender

        contender = open_contender(PUBLISHED[name], len(test.classes), device=job.device)
        assert contender.network is not None, "published weights are networks of torch"
        return Subject(contender.network, contender.predict.preprocess, tuple(layer_names(contender.network)), None)
    network, kept = NETWORKS[name](seed), job.folder / f"{name}-{seed}.safetensors"
    if kept.exists():
        network.load_state_dict(load_tensors(kept)[0])
    else:
        network = learn(network, recipe(seed, 12 if job.reduced else STEPS), train, preprocess=PREPROCESS,
                        device=job.device)
        save_tensors(network.state_dict(), kept, {})
    network.eval()
    return Subject(network, PREPROCESS, tuple(layer_names(network, "all")),
                   accuracy_percent(network, test))


def drawn_batches(test: ImageDataset, preprocess: Preprocess, count: int) -> Iterator[torch.Tensor]:
    """Normalised test images `(BATCH, 3, H, W)`, no image twice, the same for every network."""
    order = generator(0, "see").permutation(len(test))[: count * BATCH]
    for start in range(0, len(order) - 3, BATCH):
        yield normalised(Subset(test, order[start : start + BATCH]), preprocess)


def normalised(images: ImageDataset, preprocess: Preprocess) -> torch.Tensor:
    return to_network_input(np.stack([fit(images.image(i), preprocess) for i in range(len(images))]), preprocess)


def alike(subject: Subject, other: Subject, batches: Sequence[torch.Tensor]) -> np.ndarray:
    """CKA of all layers of `subject` (rows) with all layers of `other`. At paper scale the two may want their images
    normalised otherwise: each sees `batches` in its own way, from the same pixels."""
    def pairs() -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
        for images in batches:
            xs = list(layer_outputs(subject.network, images, subject.layers).values())
            seen = renormalised(images, subject.preprocess, other.preprocess)
            yield xs, xs if other is subject else list(layer_outputs(other.network, seen, other.layers).values())

    return cka_map(pairs())


def renormalised(images: torch.Tensor, preprocess: Preprocess, other: Preprocess) -> torch.Tensor:
    """What one preprocessing made `(N, 3, H, W)`, as another would have normalised it; resized where sizes differ."""
    mean, std, to_mean, to_std = (torch.tensor(values).view(1, 3, 1, 1) for values in
                                  (preprocess.mean, preprocess.std, other.mean, other.std))
    pixels = images * std + mean
    if pixels.shape[2:] != other.image_size:
        pixels = nn.functional.interpolate(pixels, other.image_size, mode="bicubic", antialias=True)
    return (pixels - to_mean) / to_std


def of_blocks(subject: Subject, images: torch.Tensor, keep_field: bool) -> dict[str, dict[str, Any]]:
    """By block: its skip ratio (mean of its branches), field, localisation, and the reach of its token mixing."""
    network, names = subject.network, block_names(subject.network)
    outputs = layer_outputs(network, images, names)
    ratios = skip_ratios(network, images)
    mixing = dict(zip(names, mixing_distances(network), strict=True)) if isinstance(network, Model) else {}
    found = {}
    for name in names:
        own_ratios = [branch.ratio.mean() for branch in ratios if branch.name.startswith(f"{name} ")]
        tokens = as_tokens(outputs[name], subject.skip)
        rows, columns = outputs[name].shape[2:] if outputs[name].ndim == 4 else token_grid(tokens.shape[1])
        field = receptive_field(network, images[:FIELD_IMAGES], name, skip=subject.skip)
        height, width = field.shape
        centre = ((rows // 2 + 0.5) * height / rows - 0.5, (columns // 2 + 0.5) * width / columns - 0.5)
        own, others = own_and_others(localisation(tokens, images, (rows, columns)))
        found[name] = {
            "skip_ratio": float(np.mean(own_ratios)),
            "field_px": mean_distance(field, centre), "mixing_px": mixing.get(name),
            "own_patch_cka": own, "other_patches_cka": others if tokens.shape[1] > 1 else None,
            "field": as_cell(thumbnail(field / field.max())) if keep_field else None}
    return found


def thumbnail(field: np.ndarray) -> np.ndarray:
    """At most 32 x 32 pixels, for the table: the mean of square parts."""
    part = -(-max(field.shape) // 32)
    rows, columns = (side // part for side in field.shape)
    return field[: rows * part, : columns * part].reshape(rows, part, columns, part).mean((1, 3))


def probes(subject: Subject, train: ImageDataset, test: ImageDataset) -> dict[str, float]:
    """Linear 10-shot accuracy, in closed form, of the mean over positions of each block's output: mean over 3 draws."""
    names = block_names(subject.network)
    pool = Subset(train, np.unique(np.concatenate([draw_shots(train.labels, SHOTS, seed) for seed in range(DRAWS)])))

    def features(images: ImageDataset) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(images), 256):
            part = Subset(images, np.arange(start, min(start + 256, len(images))))
            outputs = layer_outputs(subject.network, normalised(part, subject.preprocess), names)
            parts.append([as_tokens(outputs[name], subject.skip).mean(1).numpy() for name in names])
        return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))

    support, measured = features(pool), features(test)
    return {name: few_shot_accuracies(support[name], pool.labels, measured[name], test.labels, len(test.classes),
                                      shots=SHOTS, seeds=DRAWS).mean_percent for name in names}


def as_cell(values: np.ndarray) -> str:
    return " ".join(f"{value:.3g}" for value in values.flat)


EXPERIMENT = Experiment(
    name="see-like-cnns",
    title="Does a Mixer see like a ViT or like a ResNet?",
    source="Raghu et al., arXiv 2108.08810, sections 3 to 5 and appendix H",
    claim="""Of networks trained on JFT-300M and ImageNet: the layers of a ViT are alike through its depth, where a
    ResNet falls into early and late layers that are not; a ViT's skip connections carry more than its branches add,
    and more than in a ResNet; its tokens depend on far pixels early, where a ResNet's field grows with depth.

    Of Mixer (appendix H): its similarity maps look like a ViT's rather than a ResNet's.""",
    laptop="""A Mixer and a ViT (width 64, 4 blocks, patches of 8 pixels, no class token) and a ResNet of four basic
    blocks learn 5,748 digit scenes of 32 x 32 pixels for 300 steps of 64 images, all by one recipe. CKA in 8 batches of
    128 test scenes, of every norm, linear map, activation and block, positions and channels flattened; receptive fields
    of the centre token after each block, mean over 32 scenes; localisation, unbiased CKA of 128 scenes, of each token
    with the pixels at each place (another patch size in each stage of the ResNet); probes of the mean over positions,
    10 shots, 3 draws. Early: the first third of the layers, late: the last third. Maps and fields (a, b, c of the
    figure), and with them what is said of early and late layers, are of the first seed alone; all else is over the
    seeds.""",
    paper="""Published weights learnt from ImageNet alone: Google's Mixer-B/16, timm's ViT-B/16 (AugReg) and ResNet-50
    (A1), as those of the paper, trained on JFT-300M, are not public. On the validation images of --data imagenet:DIR, 8
    batches of 128; of the layers, stem, blocks and last norm only, for the memory. One seed: nothing is trained.""",
    columns=COLUMNS,
    arms=arms,
    figure=figure,
    found=found,
)
