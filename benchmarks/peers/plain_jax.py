"""MLP-Mixer, ResMLP and gMLP in plain JAX, from the papers' equations; needs jax and numpy only.

Sources: MLP-Mixer (arXiv 2105.01601) section 2, ResMLP (2105.03404) section 2, gMLP (2105.08050) section 2. Weights
come by timm's names. Axes: B images, S T tokens, C channels, F hidden channels. Everything is float32.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Weights = Mapping[str, jax.Array]
Gelu = Callable[[jax.Array], jax.Array]
EPSILON, GATE_EPSILON = 1e-6, 1e-5  # of LayerNorm, as in timm


def layer_norm(x, weights: Weights, name: str, epsilon: float = EPSILON):
    centred = x - x.mean(-1, keepdims=True)
    deviation = jnp.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def affine(x, weights: Weights, name: str):
    return x * weights[f"{name}.alpha"] + weights[f"{name}.beta"]


def linear(x, weights: Weights, name: str):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def across_tokens(x_BSC, weights: Weights, name: str):
    """The linear map from S to T tokens, the same for all channels."""
    return jnp.einsum("ts,bsc->btc", weights[f"{name}.weight"], x_BSC) + weights[f"{name}.bias"][:, None]


def mixer_block(x_BSC, weights: Weights, name: str, gelu: Gelu):
    y = layer_norm(x_BSC, weights, f"{name}.norm1")
    y = gelu(across_tokens(y, weights, f"{name}.mlp_tokens.fc1"))
    x_BSC = x_BSC + across_tokens(y, weights, f"{name}.mlp_tokens.fc2")
    y = gelu(linear(layer_norm(x_BSC, weights, f"{name}.norm2"), weights, f"{name}.mlp_channels.fc1"))
    return x_BSC + linear(y, weights, f"{name}.mlp_channels.fc2")


def resmlp_block(x_BSC, weights: Weights, name: str, gelu: Gelu):
    y = across_tokens(affine(x_BSC, weights, f"{name}.norm1"), weights, f"{name}.linear_tokens")
    x_BSC = x_BSC + weights[f"{name}.ls1"] * y
    y = gelu(linear(affine(x_BSC, weights, f"{name}.norm2"), weights, f"{name}.mlp_channels.fc1"))
    return x_BSC + weights[f"{name}.ls2"] * linear(y, weights, f"{name}.mlp_channels.fc2")


def gmlp_block(x_BSC, weights: Weights, name: str, gelu: Gelu):
    y = gelu(linear(layer_norm(x_BSC, weights, f"{name}.norm"), weights, f"{name}.mlp_channels.fc1"))
    kept, gate = jnp.split(y, 2, axis=-1)
    gate = layer_norm(gate, weights, f"{name}.mlp_channels.gate.norm", GATE_EPSILON)
    gate = across_tokens(gate, weights, f"{name}.mlp_channels.gate.proj")
    return x_BSC + linear(kept * gate, weights, f"{name}.mlp_channels.fc2")


BLOCKS = {"mlp_tokens.fc1.weight": mixer_block, "linear_tokens.weight": resmlp_block,
          "mlp_channels.gate.proj.weight": gmlp_block}  # by a weight that only this block has


def network(arrays: Mapping[str, np.ndarray], mean: Sequence[float], std: Sequence[float],
            tanh: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """The jitted network: uint8 images `(B, H, W, 3)` to float32 logits `(B, K)`.

    `tanh`: with the approximation of GELU that Google's Mixers were trained with."""
    gelu = partial(jax.nn.gelu, approximate=tanh)
    weights = {name: jnp.asarray(array) for name, array in arrays.items()}
    block = next(block for name, block in BLOCKS.items() if f"blocks.0.{name}" in weights)
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    norm = affine if "norm.alpha" in weights else layer_norm
    shift, scale = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)

    @jax.jit
    def logits(weights: Weights, images_BHWI):
        x = (images_BHWI.astype(jnp.float32) / 255 - shift) / scale
        kernel_CIPQ = weights["stem.proj.weight"]
        size = kernel_CIPQ.shape[2]
        count, height, width, _ = x.shape
        x = x.reshape(count, height // size, size, width // size, size, 3).transpose(0, 1, 3, 5, 2, 4)
        x_BSC = x.reshape(count, -1, 3 * size * size) @ kernel_CIPQ.reshape(len(kernel_CIPQ), -1).T
        x_BSC = x_BSC + weights["stem.proj.bias"]
        for number in range(depth):
            x_BSC = block(x_BSC, weights, f"blocks.{number}", gelu)
        return linear(norm(x_BSC, weights, "norm").mean(1), weights, "head")

    return lambda images: np.asarray(logits(weights, images))
