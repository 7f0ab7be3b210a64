"""The laptop scale: small networks for scenes of 32 pixels, the recipe they learn by, and how they are measured.

Nothing here was tuned for one network against another: the recipe is one plain choice for all of them, and what is
compared takes the same steps over the same images.
"""

from collections.abc import Callable

import torch
from torch import nn

from allmlp.backends.network import NetworkPredictor, pooled
from allmlp.data.dataset import ImageDataset, Subset
from allmlp.data.seeds import derived_seed
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.evaluate.fewshot import draw_shots, evaluate_few_shot
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig
from allmlp.models.model import Model, build
from allmlp.preprocess import Preprocess
from allmlp.recipe import Loss, Optimizer, Recipe, Schedule
from allmlp.reproduce.baselines import resnet, vit
from allmlp.reproduce.learn import CLASSES as CLASSES

SIZE_PX, PATCH_PX = 32, 8  # of digit-scenes, and of the networks for them
PREPROCESS = Preprocess(image_size=(SIZE_PX, SIZE_PX), crop_ratio=1.0)
SHOTS, DRAWS = 5, 5
POOL = 25  # training images of each class that the shots are drawn from

NETWORKS: dict[str, Callable[[int], nn.Module]] = {  # by the seed of their weights
    "Mixer": lambda seed: mixer(64, 4, seed=seed),
    "ViT": lambda seed: vit(SIZE_PX, PATCH_PX, 64, 4, CLASSES, seed=seed),
    "ResNet": lambda seed: resnet(SIZE_PX, CLASSES, width=8, seed=seed),
}


def mixer(width: int, depth: int, *, image_px: int = SIZE_PX, patch_px: int = PATCH_PX, num_classes: int = CLASSES,
          seed: int = 0) -> Model:
    """A Mixer of the usual shape, D_S = C / 2 and D_C = 2 C (half of the usual 4 C), for square images."""
    block = MixerConfig(token_hidden=width // 2, channel_hidden=2 * width, activation="erf")
    config = ModelConfig(image_size=(image_px, image_px), patch_size=(patch_px, patch_px), width=width, depth=depth,
                         blocks=(block,), num_classes=num_classes)
    return build(config, PREPROCESS.with_(image_size=config.image_size), generator=_generator(seed, "mixer"))


def resmlp(width: int, depth: int, *, seed: int = 0) -> Model:
    """A ResMLP as `mixer` is a Mixer: D_C = 2 C, for scenes."""
    block = ResMLPConfig(channel_hidden=2 * width, layer_scale=0.1)
    config = ModelConfig(image_size=PREPROCESS.image_size, patch_size=(PATCH_PX, PATCH_PX), width=width, depth=depth,
                         blocks=(block,), norm=AffineConfig(), init="deit", num_classes=CLASSES)
    return build(config, PREPROCESS, generator=_generator(seed, "resmlp"))


def _generator(*key: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(*key))


def recipe(seed: int, steps: int) -> Recipe:
    """Plain supervised learning: no augmentation, as the scenes' digits have random places and sizes already."""
    return Recipe(name="digit_scenes", model="mixer_p2_8", data="digit-scenes", batch_size=64, seed=seed,
                  optimizer=Optimizer(learning_rate=3e-3, weight_decay=0.05), loss=Loss(label_smoothing=0.1),
                  schedule=Schedule(steps=steps, warmup_steps=steps // 10))


def accuracy_percent(network: nn.Module, test: ImageDataset, preprocess: Preprocess = PREPROCESS) -> float:
    """Top-1 of the network's own head."""
    found = evaluate_dataset(NetworkPredictor(network, preprocess, test.classes), test).score_percent
    assert found is not None, "there are test images"
    return found


def few_shot_percent(network: nn.Module, train: ImageDataset, test: ImageDataset,
                     preprocess: Preprocess = PREPROCESS) -> float:
    """Linear 5-shot accuracy of the pooled features, mean over `DRAWS` draws from `POOL` training images a class.

    The images are the same for every network and seed, so accuracies are compared on equal terms.
    """
    pool = Subset(train, draw_shots(train.labels, POOL, seed=0))
    features = NetworkPredictor(network, preprocess, None, forward=pooled(network))
    return evaluate_few_shot(features, pool, test, [SHOTS], seeds=DRAWS)[0].mean_percent
