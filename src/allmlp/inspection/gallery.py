"""All pictures that can be made of some networks, each with a caption that says what is seen, on which scale, by which
rule, and where it comes from. What a network has not is left out, and said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.errors import BadSetting
from allmlp.inspection import weights
from allmlp.inspection.activation import class_activation_maps, why_not_exact
from allmlp.inspection.occlusion import occlusion_map
from allmlp.inspection.pictures.embedding import feature_embedding
from allmlp.inspection.pictures.evidence import Evidence, evidence_maps
from allmlp.inspection.pictures.interaction import token_matrices
from allmlp.inspection.pictures.sparsity import sparsity_curves
from allmlp.inspection.pictures.stem import stem_filters
from allmlp.inspection.pictures.units import token_mixing_units
from allmlp.models.model import Model
from allmlp.preprocess import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Found = TypeVar("Found")

FIRST = 3  # blocks shown of token mixing, as in MLP-Mixer's figure 5
CLASSES = 3  # whose evidence is shown in an image

SCALE = "The scale of the colours stands below each panel: 99.5 % of the weights lie within, the rest has its ends."
SOURCES = {"patch interaction": "As ResMLP's figure 2.",
           "spatial gate": "gMLP's authors saw their gates become such, without being told to."}


@dataclass(frozen=True)
class Picture:
    """`name`: of its files, without suffix."""

    name: str
    title: str
    caption: str
    figure: "Figure"


@dataclass(frozen=True)
class Gallery:
    """`left_out`: one line for each thing that a network has not, so that it cannot be shown."""

    pictures: list[Picture] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __add__(self, other: "Gallery") -> "Gallery":
        return Gallery([*self.pictures, *other.pictures], [*self.left_out, *other.left_out])


def of_weights(networks: Mapping[str, Model], blocks: Sequence[int] | None = None) -> Gallery:
    """What can be seen of the weights alone. `blocks`: their numbers, from 0 (None: the first three of token MLPs; the
    first, middle and last of maps from tokens to tokens). Raises `BadSetting` for a block that no network has."""
    deepest = max(len(model.blocks) for model in networks.values())
    for block in blocks or ():
        if not 0 <= block < deepest:
            raise BadSetting(f"block {block}: the network has blocks 0 to {deepest - 1}")
    return _stem(networks) + _units(networks, blocks) + _matrices(networks, blocks) + _sparsity(networks)


def of_images(networks: Mapping[str, Model], images: Mapping[str, np.ndarray]) -> Gallery:
    """What in each of `images` (by name, uint8 RGB `(h, w, 3)` of any size; at least one) speaks for a class."""
    gallery = Gallery()
    for name, model in networks.items():
        reason = why_not_exact(model)
        if model.num_classes == 0 or model.config.in_channels not in (1, 3):
            gallery.left_out.append(f"{name}: no evidence in images: {reason}")
            continue
        if reason:
            gallery.left_out.append(f"{name}: no exact class-activation maps: {reason}")
        title, suffix = _of(name, networks)
        shown = [_evidence(each, image, model) for each, image in images.items()]
        gallery.pictures.append(Picture(f"evidence{suffix}", f"What in an image speaks for a class{title}", (
            "Left the image as the network saw it. Then, where the evidence for its most probable classes lies: the "
            "mean of a map is exactly the logit without the head's bias, since the head is linear and applied to the "
            "mean over tokens. A token has read the whole image, so the map says where evidence is kept, not which "
            "pixels it came from. Right, by how much the logit of the first class falls when a patch is covered with "
            "the mean colour. Red speaks for the class, blue against it; ± is the end of each map's colours, in "
            "logits, the same for all classes of a row."), evidence_maps(shown)))
    return gallery


def of_features(points: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str], how: str) -> Gallery:
    """Features of a data set in the plane: for each network `(N, 2)`. `how`: the method and the data, in words."""
    return Gallery([Picture("embedding", "Features of a data set", (
        f"Pooled features after the last norm, {how}. Neighbours stay neighbours; distances between groups, their "
        "sizes and the axes mean nothing."), feature_embedding(points, labels, classes))])


def _stem(networks: Mapping[str, Model]) -> Gallery:
    found, left_out = _take("no patch embedding", networks, weights.stem_kernels)
    return Gallery([Picture("stem", "What the patch embedding looks for", (
        "The kernel of every channel, as a picture of one patch, from low spatial frequency to high (mean |f| of its "
        f"Fourier power). With three input channels, grey is 0. {SCALE} As MLP-Mixer's figure 7."),
        stem_filters(found))] if found else [], left_out)


def _units(networks: Mapping[str, Model], blocks: Sequence[int] | None) -> Gallery:
    found, left_out = _take("no token MLP in the blocks shown", networks, lambda model: _of_blocks(
        model, range(FIRST) if blocks is None else blocks, weights.token_units))
    return Gallery([Picture("token-mixing", "What token mixing reads", (
        "Every hidden unit of the token MLP: the weights with which it reads the patches, each at its patch. Pairs of "
        "opposite phase stand side by side (matched greedily, the most negative cosine first; called opposite below "
        "−0.5), low spatial frequency first (mean |f| of the Fourier power, in cycles per patch). "
        f"{SCALE} As MLP-Mixer's figures 5 and 6, whose own order is not published."),
        token_mixing_units(found))] if found else [], left_out)


def _matrices(networks: Mapping[str, Model], blocks: Sequence[int] | None) -> Gallery:
    def matrices(model: Model) -> dict[int, tuple[str, np.ndarray]] | None:
        last = len(model.blocks) - 1
        return _of_blocks(model, sorted({0, (last + 1) // 2, last}) if blocks is None else blocks, weights.token_matrix)

    found, left_out = _take("no linear map from tokens to tokens in the blocks shown", networks, matrices)
    pictures = []
    for name, shown in found.items():
        kind = next(iter(shown.values()))[0]
        title, suffix = _of(name, networks)
        pictures.append(Picture(
            f"{kind.replace(' ', '-')}{suffix}", f"How each patch reads all patches: the {kind}{title}", (
                "Each small map has the weights with which one patch reads all, and lies where that patch lies. Below, "
                "the mean weight for each displacement, none in the middle: the closest convolution, with the share of "
                "the weights' variance that it explains, and what it would explain of random ones. "
                f"{SCALE} {SOURCES[kind]}"), token_matrices({block: matrix for block, (_, matrix) in shown.items()})))
    return Gallery(pictures, left_out)


def _sparsity(networks: Mapping[str, Model]) -> Gallery:
    return Gallery([Picture("sparsity", "How sparse the weights are", (
        "The share of the weights of each linear map below 5 % of the largest weight of their matrix (ResMLP, figure "
        "3), block by block; and how it hangs on that threshold. One outlier makes all others look small."),
        sparsity_curves({name: weights.linear_weights(model) for name, model in networks.items()}))])


def _evidence(name: str, image: np.ndarray, model: Model) -> Evidence:
    predictor = PyTorchPredictor(model)
    seen = fit(image, model.preprocess)
    logits = predictor(seen[None])[0]
    first = np.argsort(-logits, kind="stable")[:CLASSES]
    shares = np.exp(logits - np.logaddexp.reduce(logits)) if model.output == "softmax" else 1 / (1 + np.exp(-logits))
    maps = None if why_not_exact(model) else class_activation_maps(model, seen, first.tolist())[0]
    names = [model.classes[class_] if model.classes else str(class_) for class_ in first]
    return Evidence(name, seen, names, shares[first].tolist(), maps,
                    occlusion_map(predictor, seen, int(first[0]), model.config.patch_size))


def _of_blocks(model: Model, blocks: Sequence[int], take: Callable[[Model, int], Found | None]
               ) -> dict[int, Found] | None:
    """What `take` finds in those of `blocks` that the network has; None if nothing."""
    found = {block: take(model, block) for block in blocks if block < len(model.blocks)}
    return {block: each for block, each in found.items() if each is not None} or None


def _take(lacks: str, networks: Mapping[str, Model], take: Callable[[Model], Found | None]
          ) -> tuple[dict[str, Found], list[str]]:
    """What `take` finds in each network, and a line for each in which it finds nothing."""
    found = {name: take(model) for name, model in networks.items()}
    return ({name: each for name, each in found.items() if each is not None},
            [f"{name}: {lacks}" for name, each in found.items() if each is None])


def _of(name: str, networks: Mapping[str, Model]) -> tuple[str, str]:
    """What a picture of one network adds to its title and its file name: nothing where there is only one."""
    return ("", "") if len(networks) == 1 else (f" · {name}", f"-{list(networks).index(name) + 1}")
