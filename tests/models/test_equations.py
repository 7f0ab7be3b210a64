"""The networks against their papers' equations, written out as sums over raw weights, in float64.

Tokens are S, channels C, hidden units F; b is the image, s and t are tokens, c and d channels, f and g hidden units.
"""

import math

import pytest
import torch
from torch import Tensor, einsum

from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.layers import DropPath, gelu
from allmlp.models.model import ModelConfig, build
from allmlp.testing import randomise

EQUAL = 1e-12  # of values near one: float64's 1e-16 times the length of the sums (up to 100), through three blocks

Weights = dict[str, Tensor]


def erf_gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Tensor, w: Weights, name: str, epsilon: float = 1e-6) -> Tensor:
    """Over the channels of each token, with the biased variance."""
    centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
    variance = (centred**2).sum(-1, keepdim=True) / x.shape[-1]
    return centred / (variance + epsilon) ** 0.5 * w[f"{name}.weight"] + w[f"{name}.bias"]


def aff(x: Tensor, w: Weights, name: str) -> Tensor:
    """ResMLP eq. 1: Aff(x) = Diag(alpha) x + beta, over channels."""
    return einsum("cd,bsd->bsc", torch.diag(w[f"{name}.alpha"].flatten()), x) + w[f"{name}.beta"].flatten()


def mixer_block(x: Tensor, w: Weights, gelu=tanh_gelu) -> Tensor:
    """MLP-Mixer eq. 1: columns of X are channels for the first MLP, rows are tokens for the second."""
    y = layer_norm(x, w, "norm1")
    hidden = gelu(einsum("fs,bsc->bfc", w["mlp_tokens.fc1.weight"], y) + w["mlp_tokens.fc1.bias"][:, None])
    u = x + einsum("tf,bfc->btc", w["mlp_tokens.fc2.weight"], hidden) + w["mlp_tokens.fc2.bias"][:, None]
    y = layer_norm(u, w, "norm2")
    hidden = gelu(einsum("fc,bsc->bsf", w["mlp_channels.fc1.weight"], y) + w["mlp_channels.fc1.bias"])
    return u + einsum("df,bsf->bsd", w["mlp_channels.fc2.weight"], hidden) + w["mlp_channels.fc2.bias"]


def gmixer_block(x: Tensor, w: Weights) -> Tensor:
    """timm's gmixer: hidden unit f is (value f) times silu(gate f), and the gates are the second half of fc1."""
    def gated(y: Tensor, name: str) -> Tensor:  # over the last axis, here called m
        half = w[f"{name}.fc1.weight"].shape[0] // 2
        weight, bias = w[f"{name}.fc1.weight"], w[f"{name}.fc1.bias"]
        value = einsum("fm,...m->...f", weight[:half], y) + bias[:half]
        gate = einsum("fm,...m->...f", weight[half:], y) + bias[half:]
        hidden = value * gate / (1 + torch.exp(-gate))
        return einsum("nf,...f->...n", w[f"{name}.fc2.weight"], hidden) + w[f"{name}.fc2.bias"]

    u = x + gated(layer_norm(x, w, "norm1").permute(0, 2, 1), "mlp_tokens").permute(0, 2, 1)
    return u + gated(layer_norm(u, w, "norm2"), "mlp_channels")


def resmlp_block(x: Tensor, w: Weights) -> Tensor:
    """ResMLP eqs. 2-3 and Algorithm 1 (no shift after the linear maps), one patch row at a time."""
    y = aff(x, w, "norm1")
    mixed = einsum("ts,bsc->btc", w["linear_tokens.weight"], y) + w["linear_tokens.bias"][:, None]
    z = x + w["ls1"] * mixed
    hidden = erf_gelu(einsum("fc,bsc->bsf", w["mlp_channels.fc1.weight"], aff(z, w, "norm2"))
                      + w["mlp_channels.fc1.bias"])
    return z + w["ls2"] * (einsum("df,bsf->bsd", w["mlp_channels.fc2.weight"], hidden) + w["mlp_channels.fc2.bias"])


def gmlp_block(x: Tensor, w: Weights) -> Tensor:
    """gMLP: Z = gelu(XU), s(Z) = Z1 * (W Z2 + b), Y = X + s(Z) V; Z2 normalised with epsilon 1e-5."""
    z = erf_gelu(einsum("fc,bsc->bsf", w["mlp_channels.fc1.weight"], layer_norm(x, w, "norm"))
                 + w["mlp_channels.fc1.bias"])
    half = z.shape[-1] // 2
    z2 = layer_norm(z[..., half:], w, "mlp_channels.gate.norm", epsilon=1e-5)
    gate = einsum("ts,bsf->btf", w["mlp_channels.gate.proj.weight"], z2) + w["mlp_channels.gate.proj.bias"][:, None]
    return x + einsum("cf,bsf->bsc", w["mlp_channels.fc2.weight"], z[..., :half] * gate) + w["mlp_channels.fc2.bias"]


def written_out_block(config, x: Tensor, w: Weights) -> Tensor:
    if config.kind == "mixer":
        return gmixer_block(x, w) if config.activation == "swiglu" else mixer_block(x, w)
    return {"resmlp": resmlp_block, "gmlp": gmlp_block}[config.kind](x, w)


def written_out(config: ModelConfig, w: Weights, images: Tensor) -> Tensor:
    """The whole network: patches one by one in raster order, blocks, norm, mean over tokens, head."""
    (image_height, image_width), (height, width) = config.image_size, config.patch_size
    tokens = [
        einsum("cihw,bihw->bc", w["stem.proj.weight"], images[:, :, top : top + height, left : left + width])
        + w["stem.proj.bias"]
        for top in range(0, image_height, height)
        for left in range(0, image_width, width)
    ]
    x = torch.stack(tokens, dim=1)
    for index, block in enumerate(config.layers):
        prefix = f"blocks.{index}."
        x = written_out_block(block, x, {name.removeprefix(prefix): value for name, value in w.items()
                                         if name.startswith(prefix)})
    x = layer_norm(x, w, "norm") if config.norm.kind == "layernorm" else aff(x, w, "norm")
    pooled = x.sum(1) / x.shape[1]
    return einsum("kc,bc->bk", w["head.weight"], pooled) + w["head.bias"]


def test_the_network_is_its_papers_equations(config):
    model = build(config).eval().double()
    randomise(model)
    images = torch.randn(2, config.in_channels, *config.image_size, dtype=torch.float64)
    with torch.no_grad():
        logits, expected = model(images), written_out(config, model.state_dict(), images)
    assert expected.std() > 0.1
    assert (logits - expected).abs().max() < EQUAL


@pytest.mark.parametrize(("kind", "formula"), [("tanh", tanh_gelu), ("erf", erf_gelu)])
def test_gelu_is_its_formula(kind, formula):
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    assert (gelu(kind)(x) - formula(x)).abs().max() < EQUAL


def test_the_two_gelus_differ_by_at_most_4_73e_4():
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    difference = (gelu("tanh")(x) - gelu("erf")(x)).abs().max().item()
    assert f"{difference:.2e}" == "4.73e-04"


def test_a_mixer_with_the_other_gelu_is_eq_1_with_the_other_gelu():
    block = MixerConfig(token_hidden=18, channel_hidden=34, activation="erf")
    block = block.build(14, (6, 5), [DropPath(0, rescale=True), DropPath(0, rescale=True)]).double()
    randomise(block)
    x = torch.randn(2, 30, 14, dtype=torch.float64)
    with torch.no_grad():
        assert (block(x) - mixer_block(x, block.state_dict(), erf_gelu)).abs().max() < EQUAL
        assert (block(x) - mixer_block(x, block.state_dict(), tanh_gelu)).abs().max() > 1e-5
