"""The skeleton of every network: stem, blocks, norm, mean over tokens, linear head.

Sources: MLP-Mixer (arXiv 2105.01601, section 2), ResMLP (arXiv 2105.03404, section 2), gMLP (arXiv 2105.08050). The
families differ in the block, the norm and how the weights start. No positional embedding, no class token, no softmax.
Hybrids take other stems and blocks, and layers that merge patches; which ones, the config says.
Parameter names are timm's, so that state dicts pass both ways; so are the names of methods and what they answer.

Axes: B batch, S tokens (raster order), C channels, H W image, K classes.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from allmlp.errors import BadSetting, printable
from allmlp.models import interface
from allmlp.models.class_mlp import ClassMlp
from allmlp.models.config import ModelConfig
from allmlp.models.heap import keep_smaller_blocks
from allmlp.models.init import initialise
from allmlp.models.layers import DropPath, IdentityConfig, build_norm
from allmlp.models.segment import DecoderConfig, SegmentConfig
from allmlp.preprocess import Preprocess

Output = Literal["softmax", "sigmoid"]
"""How logits become probabilities: over all classes (one class per image), or each class for itself (several)."""


MAX_BYTES = 16 << 30  # of all weights; Mixer-H/14 at 448 pixels takes 2.4 GB


class Model(nn.Module):
    """An all-MLP classifier: normalised images `(B, in_channels, H, W)` to logits `(B, K)`.

    `preprocess` says how images are normalised for it, `classes` what its logits mean (None: not known), `output` how
    logits become probabilities; all three travel with the weights.
    """

    # TorchScript takes along every attribute and property that it is not told to leave; it knows no configs.
    __jit_ignored_attributes__ = ("config", "preprocess", "classes")
    __jit_unused_properties__ = ("num_classes", "num_features", "head_hidden_size", "in_chans", "drop_rate",
                                 "feature_info", "pretrained_cfg", "default_cfg")  # fmt: skip

    def __init__(
        self,
        config: ModelConfig,
        preprocess: Preprocess | None = None,
        classes: Sequence[str] | None = None,
        output: Output = "softmax",
    ):
        super().__init__()
        keep_smaller_blocks()
        self.config = config
        self.output: Output = output
        self.preprocess = preprocess or Preprocess(
            image_size=config.image_size, channels=1 if config.in_channels == 1 else 3
        )
        self.classes = one_name_per_class(classes, config.num_classes)
        self.global_pool = config.global_pool
        self.grad_checkpointing = False
        self._pretrained_cfg: dict[str, Any] | None = None

        places, width = config.places, config.out_width
        rates = config.stochastic_depth.rates([layer.branches for layer, _, _ in places])
        rescale = config.stochastic_depth.rescale
        self.stem = config.stem.build(config)
        self.blocks = nn.Sequential(*(
            place.layer.build(place.width, place.grid, [DropPath(rate, rescale) for rate in block_rates])
            for place, block_rates in zip(places, rates, strict=True)
        ))
        self.norm = build_norm(config.norm, width)
        self.pool = None
        if config.global_pool == "class_mlp":
            layer_scale = getattr(places[-1].layer, "layer_scale", None)
            self.pool = ClassMlp(width, math.prod(config.out_grid), config.norm, layer_scale)
        self.head_drop = nn.Dropout(config.drop_rate)
        if config.segment is not None:
            self.head = config.segment.build(config)
        else:
            self.head = nn.Linear(width, config.num_classes) if config.num_classes else nn.Identity()

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def in_chans(self) -> int:
        return self.config.in_channels

    @property
    def drop_rate(self) -> float:
        return self.config.drop_rate

    @property
    def num_features(self) -> int:
        """Channels of the last tokens, and so of the pooled features too (`head_hidden_size`)."""
        return self.config.out_width

    head_hidden_size = num_features

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Name, channels and reduction of each block's output, for timm's feature extractors."""
        return interface.feature_info(self.config)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and the names of the network's ends in timm's words; `timm.create_model` puts its own here."""
        return self._pretrained_cfg or interface.as_timm_config(self.config, self.preprocess)

    @pretrained_cfg.setter
    def pretrained_cfg(self, value: dict[str, Any]) -> None:
        self._pretrained_cfg = value

    default_cfg = pretrained_cfg

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  (a decoder cannot be scripted)
            return self.forward_head(self.forward_features(images_BCHW))
        if isinstance(self.config.segment, DecoderConfig):
            return self.forward_decoder(images_BCHW, self.config.segment)
        return self.forward_head(self.forward_features(images_BCHW))

    @torch.jit.ignore  # pyright: ignore[reportPrivateImportUsage, reportArgumentType]
    def forward_decoder(self, images_BCHW: torch.Tensor, head: DecoderConfig) -> torch.Tensor:
        """Images to logits `(B, K, H, W)` by the outputs of several blocks, the last of them normalised."""
        features_BSC, outputs = self.forward_intermediates(images_BCHW, head.blocks(self.config.depth))
        return self.head([*outputs[:-1], self.to_grid(self.head_drop(features_BSC))])

    def forward_features(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Normalised images to tokens `(B, S, C)` after the last norm. Raises `BadData` for another image size."""
        x_BSC = self.stem(images_BCHW)
        for block in self.blocks:
            if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  (it cannot pass a block on)
                x_BSC = block(x_BSC)
            else:
                x_BSC = self.run_block(block, x_BSC)
        return self.norm(x_BSC)

    def forward_head(self, x_BSC: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Tokens to logits `(B, K)`, `(B, K, H, W)` for pixels; with `pre_logits`, or without a head, to the pooled
        features `(B, C)`.

        Without pooling (`global_pool` ""), both have an axis of tokens: `(B, S, K)`, `(B, S, C)`.
        """
        if self.global_pool == "avg":
            x_BSC = x_BSC.mean(dim=1)
        elif self.pool is not None:
            x_BSC = self.pool(x_BSC)
        x_BSC = self.head_drop(x_BSC)
        return x_BSC if pre_logits else self.head(x_BSC)

    @overload
    def forward_intermediates(
        self, images_BCHW: torch.Tensor, indices: Sequence[str]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...

    @overload
    def forward_intermediates(
        self, images_BCHW: torch.Tensor, indices: int | Sequence[int] | None = None, norm: bool = False,
        stop_early: bool = False, output_fmt: interface.FeatureFormat = "NCHW",
        intermediates_only: Literal[False] = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]: ...

    @overload
    def forward_intermediates(
        self, images_BCHW: torch.Tensor, indices: int | Sequence[int] | None = None, norm: bool = False,
        stop_early: bool = False, output_fmt: interface.FeatureFormat = "NCHW", *, intermediates_only: Literal[True],
    ) -> list[torch.Tensor]: ...

    def forward_intermediates(
        self, images_BCHW: torch.Tensor, indices: Any = None, norm: bool = False, stop_early: bool = False,
        output_fmt: interface.FeatureFormat = "NCHW", intermediates_only: bool = False,
    ) -> Any:
        """Tokens after the last norm, and what comes out of layers inside: by name (ours) or by block (timm's).

        `indices` names: any of `named_modules()`: "stem", "blocks.3", "blocks.3.mlp_tokens.act", "norm"; a dict of
        outputs as the submodules give them: `(B, S, C)` for stem, blocks and norm; inside token mixing `(B, C, F)`;
        "head" `(B, K)`. Raises `UnknownName` for a name that is no submodule.
        `indices` numbers: those blocks (None: all; a number: the last so many), a list of `(B, C, rows, columns)`, or
        with `output_fmt` "NLC" of `(B, S, C)`; the other options are those of `interface.outputs_by_index`, and
        `intermediates_only` leaves the first result out. Raises `BadSetting` for a block that is not there.
        """
        if isinstance(indices, Sequence) and all(isinstance(name, str) for name in indices):
            if norm or stop_early or intermediates_only or output_fmt != "NCHW":
                raise BadSetting("options of forward_intermediates are for blocks by number; outputs by name come as "
                                 "the layers give them")
            return interface.outputs_by_name(self, images_BCHW, indices)
        blocks = interface.take_blocks(self.config.depth, indices)
        features, outputs = interface.outputs_by_index(self, images_BCHW, blocks, norm, stop_early, output_fmt)
        return outputs if intermediates_only else (features, outputs)

    def run_block(self, block: nn.Module, x_BSC: torch.Tensor) -> torch.Tensor:
        """A block's output; its activations are kept for the backward pass or computed again there."""
        if self.grad_checkpointing and self.training:
            return checkpoint(block, x_BSC, use_reentrant=False)
        return block(x_BSC)

    def to_grid(self, x_BSC: torch.Tensor, block: int | None = None) -> torch.Tensor:
        """Tokens `(B, S, C)` as they come out of a block (None: the last) as an image `(B, C, rows, columns)`."""
        grids = [*(place.grid for place in self.config.places[1:]), self.config.out_grid]
        return x_BSC.transpose(1, 2).unflatten(2, grids[-1 if block is None else block])

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(
        self, num_classes: int, global_pool: Literal["avg", "class_mlp", ""] | None = None,
        classes: Sequence[str] | None = None, generator: torch.Generator | None = None,
    ) -> None:
        """Replace the head by a fresh one (0: none), started by the network's own scheme, and the pooling if given.

        Raises `BadSetting`, with the network as it was, also for a head that takes more than `MAX_BYTES`, and for
        pooling "class_mlp" where the network has none: it has weights.
        """
        classes = one_name_per_class(classes, num_classes)
        pooling = self.global_pool if global_pool is None else global_pool
        if self.config.segment is not None and num_classes:
            raise BadSetting("this network has a head for pixels; `with_segment_head` gives it one for other classes")
        config = self.config.with_(num_classes=num_classes, global_pool=pooling, segment=None)
        if pooling == "class_mlp" and self.pool is None:
            raise BadSetting("global_pool 'class_mlp' has weights of its own; build the network with it")
        num_classes = config.num_classes
        body = sum(_bytes(tensor) for name, tensor in self.state_dict().items() if not name.startswith("head."))
        head = num_classes * (config.out_width + 1) * self.stem.proj.weight.element_size()
        _check_bytes(config, body + head)
        self.config, self.classes, self.global_pool = config, classes, config.global_pool
        if pooling != "class_mlp":
            self.pool = None
        self.head = nn.Identity()
        if num_classes:
            like = self.stem.proj.weight
            self.head = nn.Linear(self.config.out_width, num_classes)
            initialise(nn.ModuleDict({"head": self.head}), self.config.init, self.config.head_bias, generator)
            self.head.to(like.device, like.dtype)
        self.head.train(self.training)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the blocks after the last one that `indices` asks for, in place; returns the numbers of those asked.

        `prune_norm`: the last norm goes too; `prune_head`: head and pooling too. Raises `BadSetting`.
        """
        taken = interface.take_blocks(self.config.depth, indices)
        depth = max(taken) + 1
        norm = IdentityConfig() if prune_norm else self.config.norm
        config = self.config.with_(depth=depth, blocks=self.config.blocks[:depth], norm=norm)
        if config.out_width != self.config.out_width and not (prune_norm and prune_head):
            raise BadSetting(f"block {depth - 1} has {config.out_width} channels, and norm and head are for "
                             f"{self.config.out_width}; take prune_norm=True and prune_head=True")
        self.config, self.blocks = config, self.blocks[:depth]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return taken

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of the parameters of each layer in turn, for timm's layer-wise learning rates; always by block."""
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99_999,))]}


def build_on_meta(
    config: ModelConfig,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    output: Output = "softmax",
) -> Model:
    """A network without memory, to be given its weights. Raises `BadSetting` for one of more than `MAX_BYTES`."""
    try:
        with torch.device("meta"):
            model = Model(config, preprocess, classes, output)
        total = sum(map(_bytes, model.state_dict().values()))
    except (RuntimeError, TypeError, OverflowError):  # what torch says of sizes beyond 64 bits
        model, total = None, 1 << 64
    _check_bytes(config, total)
    assert model is not None
    return model


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _check_bytes(config: ModelConfig, total: int) -> None:
    """Raises `BadSetting` for a network whose weights take `total` bytes, if that is more than `MAX_BYTES`."""
    if total <= MAX_BYTES:
        return
    (height, width), (rows, columns) = config.image_size, config.grid
    takes = "more than any machine has" if total >= 1 << 63 else f"{total / 2**30:,.0f} GiB"
    raise BadSetting(f"images of {height} x {width} pixels make {rows} x {columns} tokens, and this network's weights "
                     f"would take {takes}, with a head for {config.num_classes} classes; the limit is "
                     f"{MAX_BYTES >> 30} GiB")


def build(
    config: ModelConfig,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Model:
    """A network with fresh weights, float32 on the CPU. Built without memory first, so each weight is drawn once.

    Raises `BadSetting` as `build_on_meta` does.
    """
    model = build_on_meta(config, preprocess, classes)
    model.to_empty(device="cpu")
    initialise(model, config.init, config.head_bias, generator)
    return model


def one_name_per_class(classes: Sequence[str] | None, num_classes: int | None) -> tuple[str, ...] | None:
    """Class names as a model keeps them, `num_classes` (None: any number) of them.

    Raises `BadSetting` for another number, for what is no list of texts, for doubles and for empty ones.
    """
    some = classes is not None
    if some and (isinstance(classes, str) or not hasattr(classes, "__len__")
                 or not all(isinstance(name, str) for name in classes)):
        raise BadSetting(f"class names {printable(classes, 50)}: give a list of texts, one name per class")
    if classes is not None and num_classes is not None and len(classes) != num_classes:
        raise BadSetting(f"{len(classes)} class names for {num_classes} classes; give one name per class")
    for name, times in Counter(classes).items():
        if not name.strip():
            raise BadSetting(f"class names: number {list(classes or ()).index(name)} is empty; give each class a name")
        if times > 1:
            raise BadSetting(f"class names: {printable(repr(name), 80)} stands {times} times; each class needs a name "
                             "of its own")
    return None if classes is None else tuple(classes)


def check_model(model: object, where: str) -> None:
    """Raises `BadSetting` for what is no `Model`, such as a path, which a public function got in place of one."""
    if not isinstance(model, Model):
        raise BadSetting(f"{where}: give a network, as `allmlp.load` or `allmlp.create_model` return it, not "
                         f"{printable(repr(model), 80) if model is None or isinstance(model, str) else type(model)}")


def with_config(model: Model, config: ModelConfig) -> Model:
    """A network with the same tensors, which both then share, and another config: another GELU, dropout or pooling.

    In evaluation mode. PyTorch raises a `RuntimeError` where the tensors do not fit.
    """
    with torch.device("meta"):
        other = Model(config, model.preprocess, model.classes, model.output)
    other.load_state_dict(model.state_dict(), assign=True)
    return other.eval()


def with_segment_head(
    model: Model, head: SegmentConfig, classes: Sequence[str], generator: torch.Generator | None = None
) -> Model:
    """A network of `model`'s stem, blocks and norm, with a fresh head that answers for every pixel by `classes`.

    Shares the tensors that stay. Raises `BadSetting` for a network that cannot have it, such as one whose tokens do not
    divide the image.
    """
    config = model.config.with_(segment=head, num_classes=len(classes), global_pool="")
    new = build(config, model.preprocess, classes, generator)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("head.", "pool."))}
    new.load_state_dict({**new.state_dict(), **kept}, assign=True)
    return new.train(model.training)
