"""Scales and shifts per channel, multiplied into the linear layers beside them: the same logits with fewer operations.

For inference. With α, β a norm's scale and shift per channel (LayerNorm's weight and bias, or Aff) and γ LayerScale:

- norm, then a linear layer over channels: W diag(α) and b + W β. Exact.
- the last norm, the mean over tokens, the head: the same, since the mean keeps constants. Exact.
- a linear layer over channels, then LayerScale: diag(γ) W and γ ⊙ b. Exact.
- ResMLP's token mixing, γ ⊙ (A (α ⊙ X + β) + b): no square matrix over tokens can hold what belongs to channels. But
  α commutes with A, and all that is constant makes one table: γα ⊙ (A X) + T with T_tc = γ_c (β_c Σ_s A_ts + b_t),
  called `shift1`. Exact.
- Mixer's norm before token mixing stays: α and a table of D_S·C shifts would be due on the hidden units instead, which
  saves operations only where D_S < 2S (in B/16 one in a hundred).
- The norm in gMLP's gate stays: a table for each block would save one addition per number.
- Blocks of a kind that has no rule here (the ablations) stay as they are, and so does the last norm before class-MLP
  pooling, which mixes tokens with weights that do not sum to 1.

Tokens that come out of `forward_features` are then without the last norm's scale and shift, which the head has.
"""

import math
from collections.abc import Callable

import torch

from allmlp.models.blocks.gmlp import GMLPConfig
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.config import ModelConfig, Place
from allmlp.models.layers import AnyNorm, without_affine
from allmlp.models.model import Model, check_model

State = dict[str, torch.Tensor]


@torch.no_grad()
def fold(model: Model) -> Model:
    """A new network with the same logits and fewer operations; `model` is left as it is.

    Its checkpoint loads like any other. Without a head the last norm stays. Sums are taken in float64 and stored in the
    dtype of the weights. A folded network comes back equal.
    """
    check_model(model, "fold")
    config = model.config
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    state = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    for number, block in enumerate(config.layers):
        if block.kind in FOLDS and not block.folded:
            FOLDS[block.kind](state, f"blocks.{number}.")
    if _last_norm_folds(config):
        _fold_norm(state, "norm", "head")

    norm = without_affine(config.norm) if _last_norm_folds(config) else config.norm
    blocks = tuple(block.with_(folded=True) if block.kind in FOLDS else block for block in config.blocks)
    with torch.device("meta"):
        new = Model(config.with_(norm=norm, blocks=blocks), model.preprocess, model.classes, model.output)
    usual = model.stem.proj.weight.dtype
    new.load_state_dict({name: tensor.to(dtypes.get(name, usual), copy=True) for name, tensor in state.items()},
                        assign=True)
    return new.train(model.training)


def operations_saved(config: ModelConfig) -> int:
    """Multiplications and additions per image that `fold` removes from a network."""
    def of_norm(norm: AnyNorm, elements: int) -> int:
        return 0 if norm == without_affine(norm) else 2 * elements

    def of_block(place: Place) -> int:
        block, elements = place.layer, math.prod(place.grid) * place.width
        if block.folded or not isinstance(block, MixerConfig | GMLPConfig | ResMLPConfig):
            return 0
        if block.kind == "resmlp":  # both Affs and γ2; γ1 stays, and the table takes the place of A's bias
            return 2 * of_norm(block.norm, elements) + elements
        return of_norm(block.norm, elements)

    last = of_norm(config.norm, math.prod(config.out_grid) * config.out_width) if _last_norm_folds(config) else 0
    return sum(of_block(place) for place in config.places) + last


def _last_norm_folds(config: ModelConfig) -> bool:
    return config.num_classes > 0 and config.global_pool != "class_mlp" and config.segment is None


def _fold_mixer(state: State, block: str) -> None:
    _fold_norm(state, f"{block}norm2", f"{block}mlp_channels.fc1")


def _fold_gmlp(state: State, block: str) -> None:
    _fold_norm(state, f"{block}norm", f"{block}mlp_channels.fc1")


def _fold_resmlp(state: State, block: str) -> None:
    _fold_norm(state, f"{block}norm2", f"{block}mlp_channels.fc1")
    layer_scale = state.pop(f"{block}ls2")
    last = f"{block}mlp_channels.fc2"
    state[f"{last}.weight"] = layer_scale[:, None] * state[f"{last}.weight"]
    state[f"{last}.bias"] = layer_scale * state[f"{last}.bias"]

    layer_scale = state[f"{block}ls1"]
    scale, shift = _take_affine(state, f"{block}norm1") or (torch.ones_like(layer_scale), torch.zeros_like(layer_scale))
    row_sums, bias = state[f"{block}linear_tokens.weight"].sum(1), state.pop(f"{block}linear_tokens.bias")
    state[f"{block}shift1"] = layer_scale * (torch.outer(row_sums, shift) + bias[:, None])
    state[f"{block}ls1"] = layer_scale * scale


FOLDS: dict[str, Callable[[State, str], None]] = {"mixer": _fold_mixer, "gmlp": _fold_gmlp, "resmlp": _fold_resmlp}


def _fold_norm(state: State, norm: str, linear: str) -> None:
    """Put the scale and shift of `norm`, where it has them, into the layer over channels that follows."""
    affine = _take_affine(state, norm)
    if affine:
        scale, shift = affine
        weight = state[f"{linear}.weight"]
        state[f"{linear}.bias"] = state[f"{linear}.bias"] + weight @ shift
        state[f"{linear}.weight"] = weight * scale


def _take_affine(state: State, norm: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Remove and return scale and shift, `(C,)` each, of a LayerNorm or an Aff; None for a norm that has none."""
    for scale, shift in (("weight", "bias"), ("alpha", "beta")):
        if f"{norm}.{scale}" in state:
            return state.pop(f"{norm}.{scale}").flatten(), state.pop(f"{norm}.{shift}").flatten()
    return None
