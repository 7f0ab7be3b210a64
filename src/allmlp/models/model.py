"""The skeleton of every all-MLP network: patch embedding, blocks, norm, mean over tokens, linear head.

Sources: MLP-Mixer (arXiv 2105.01601, section 2), ResMLP (arXiv 2105.03404, section 2), gMLP (arXiv 2105.08050). The
families differ in the block, the norm and how the weights start. No positional embedding, no class token, no softmax.
Parameter names are timm's, so that state dicts pass both ways.

Axes: B batch, S tokens (raster order), C channels, H W image, K classes.
"""

from collections.abc import Sequence
from typing import Literal, Self

import pydantic
import torch
from pydantic import Field
from torch import nn
from torch.utils.checkpoint import checkpoint

from allmlp.errors import BadData, BadSetting, unknown_name
from allmlp.models.blocks import BlockConfig
from allmlp.models.init import InitScheme, initialise
from allmlp.models.layers import DropPath, LayerNormConfig, NormConfig, StochasticDepth, build_norm
from allmlp.preprocess import Preprocess
from allmlp.values import Value

Output = Literal["softmax", "sigmoid"]
"""How logits become probabilities: over all classes (one class per image), or each class for itself (several)."""


class ModelConfig(Value):
    """A network, complete. Sizes are (height, width) in pixels. `blocks` is repeated in turn up to `depth` blocks."""

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    in_channels: int = Field(default=3, ge=1)
    width: int = Field(ge=1, le=65_536)
    depth: int = Field(ge=1, le=1_024)  # a bound for files from outside: each block takes time to build
    blocks: tuple[BlockConfig, ...] = Field(min_length=1)
    norm: NormConfig = LayerNormConfig()  # the last one, before pooling
    num_classes: int = Field(default=1000, ge=0)  # 0: no head, the pooled features come out
    stochastic_depth: StochasticDepth = StochasticDepth()
    init: InitScheme = "flax"
    head_bias: float = 0.0  # where the head's bias starts; big_vision takes -6.9 with the sigmoid loss

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> Self:
        for side, image, patch in zip(("height", "width"), self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < 1:
                raise ValueError(f"{side}: image size {image} and patch size {patch} must be at least 1 pixel")
            if image % patch:
                low, high = image // patch * patch, (image // patch + 1) * patch
                near = f"{low} or {high}" if low else f"{high}"
                raise ValueError(f"image {side} {image} is not divisible by the patch {side} {patch}; take {near}")
        return self

    @pydantic.model_validator(mode="after")
    def _all_blocks_used(self) -> Self:
        if len(self.blocks) > self.depth:
            raise ValueError(f"{len(self.blocks)} blocks for a depth of {self.depth}; give at most {self.depth}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def layers(self) -> list[BlockConfig]:
        """The config of each of the `depth` blocks."""
        return [self.blocks[i % len(self.blocks)] for i in range(self.depth)]


class PatchEmbedding(nn.Module):
    """`(B, in_channels, H, W) -> (B, S, C)`: one linear map of each patch's pixels, as a convolution with bias."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.proj = nn.Conv2d(config.in_channels, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.proj(images_BCHW).flatten(2).transpose(1, 2)


class Model(nn.Module):
    """An all-MLP classifier: normalised images `(B, in_channels, H, W)` to logits `(B, K)`.

    `preprocess` says how images are normalised for it, `classes` what its logits mean (None: not known), `output` how
    logits become probabilities; all three travel with the weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        preprocess: Preprocess | None = None,
        classes: Sequence[str] | None = None,
        output: Output = "softmax",
    ):
        super().__init__()
        self.config = config
        self.output: Output = output
        self.preprocess = preprocess or Preprocess(
            image_size=config.image_size, channels=1 if config.in_channels == 1 else 3
        )
        self.classes = None if classes is None else tuple(classes)
        self.grad_checkpointing = False

        layers = config.layers
        rates = config.stochastic_depth.rates([layer.branches for layer in layers])
        rescale = config.stochastic_depth.rescale
        self.stem = PatchEmbedding(config)
        self.blocks = nn.Sequential(*(
            layer.build(config.width, config.grid, [DropPath(rate, rescale) for rate in block_rates])
            for layer, block_rates in zip(layers, rates, strict=True)
        ))
        self.norm = build_norm(config.norm, config.width)
        self.head = nn.Linear(config.width, config.num_classes) if config.num_classes else nn.Identity()

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def num_features(self) -> int:
        return self.config.width

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images_BCHW))

    def forward_features(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Normalised images to tokens `(B, S, C)` after the last norm. Raises `BadData` for another image size."""
        x_BSC = self._embed(images_BCHW)
        for block in self.blocks:
            x_BSC = self._run(block, x_BSC)
        return self.norm(x_BSC)

    def forward_head(self, x_BSC: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Tokens to logits `(B, K)`; with `pre_logits`, or without a head, to the pooled features `(B, C)`."""
        pooled_BC = x_BSC.mean(dim=1)
        return pooled_BC if pre_logits else self.head(pooled_BC)

    def forward_intermediates(
        self, images_BCHW: torch.Tensor, names: Sequence[str]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Tokens after the last norm, and the output of each submodule in `names`.

        Any name of `named_modules()`: "stem", "blocks.3", "blocks.3.mlp_tokens.act", "norm". Outputs come as the
        submodule gives them: `(B, S, C)` for stem, blocks and norm; inside token mixing `(B, C, F)`; "head" `(B, K)`.
        Raises `UnknownName` for a name that is no submodule.
        """
        modules = {name: module for name, module in self.named_modules() if name not in ("", "blocks")}
        outputs: dict[str, torch.Tensor] = {}
        hooks = []
        for name in names:
            if name not in modules:
                raise unknown_name("layer", name, modules)

        def keep(name: str):
            def hook(_module, _inputs, output):
                outputs[name] = output

            return hook

        try:
            hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
            features = self.forward_features(images_BCHW)
            self.forward_head(features)
        finally:
            for hook in hooks:
                hook.remove()
        return features, {name: outputs[name] for name in names}

    def to_grid(self, x_BSC: torch.Tensor) -> torch.Tensor:
        """Tokens `(B, S, C)` laid out as an image `(B, C, rows, columns)`."""
        return x_BSC.transpose(1, 2).unflatten(2, self.config.grid)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(
        self, num_classes: int, classes: Sequence[str] | None = None, generator: torch.Generator | None = None
    ) -> None:
        """Replace the head by a fresh one (0: none), started by the network's own scheme."""
        if classes is not None and len(classes) != num_classes:
            raise BadSetting(f"{len(classes)} class names for {num_classes} classes; give one name per class")
        self.config = self.config.with_(num_classes=num_classes)
        self.classes = None if classes is None else tuple(classes)
        self.head = nn.Identity()
        if num_classes:
            like = next(self.parameters())
            self.head = nn.Linear(self.config.width, num_classes)
            initialise(nn.ModuleDict({"head": self.head}), self.config.init, self.config.head_bias, generator)
            self.head.to(like.device, like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def _embed(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        expected = (self.config.in_channels, *self.config.image_size)
        if images_BCHW.ndim != 4 or tuple(images_BCHW.shape[1:]) != expected:
            raise BadData(f"this network takes images (B, {', '.join(map(str, expected))}), not "
                          f"{tuple(images_BCHW.shape)}")
        return self.stem(images_BCHW)

    def _run(self, block: nn.Module, x_BSC: torch.Tensor) -> torch.Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(block, x_BSC, use_reentrant=False)
        return block(x_BSC)


def build(
    config: ModelConfig,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Model:
    """A network with fresh weights, float32 on the CPU. Built without memory first, so each weight is drawn once."""
    with torch.device("meta"):
        model = Model(config, preprocess, classes)
    model.to_empty(device="cpu")
    initialise(model, config.init, config.head_bias, generator)
    return model
