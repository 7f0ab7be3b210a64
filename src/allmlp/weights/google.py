"""Google's MLP-Mixers: flax parameters as a flat `.npz`, GELU's tanh form, LayerNorm epsilon 1e-6.

`CURRENT` is what vision_transformer's `models_mixer.py` and the published files have, `LEGACY` an older form that
big_vision's `mlp_mixer.py` still reads. Kernels are (in, out), the stem's is (height, width, in, out).
"""

import os
from collections.abc import Iterator

import numpy as np
import torch

from allmlp.files import write_atomically
from allmlp.models.model import Model
from allmlp.weights.layout import DENSE, HWIO, VECTOR, Axes, Layout, Names, to_source
from allmlp.weights.lost import check_writable, what_is_lost

MLPS = {"token_mixing": "mlp_tokens", "channel_mixing": "mlp_channels"}


def _dense(source: str, ours: str) -> Names:
    return {f"{source}/kernel": (f"{ours}.weight", DENSE), f"{source}/bias": (f"{ours}.bias", VECTOR)}


def _norm(source: str, ours: str) -> Names:
    return {f"{source}/scale": (f"{ours}.weight", VECTOR), f"{source}/bias": (f"{ours}.bias", VECTOR)}


def _stem(source: str) -> Names:
    return {f"{source}/kernel": ("stem.proj.weight", HWIO), f"{source}/bias": ("stem.proj.bias", VECTOR)}


def _legacy_mlps() -> Iterator[tuple[str, tuple[str, Axes]]]:
    for source, ours in MLPS.items():
        for number in (1, 2):
            yield f"{source}_phase_0/kernel{number}", (f"{ours}.fc{number}.weight", DENSE)
            yield f"{source}_phase_0/bias{number}", (f"{ours}.fc{number}.bias", VECTOR)


CURRENT = Layout(
    source="Google's Mixer",
    family="mixer",
    activation="tanh",
    block_prefix="MixerBlock_{}/",
    block={
        **_norm("LayerNorm_0", "norm1"),
        **_dense("token_mixing/Dense_0", "mlp_tokens.fc1"),
        **_dense("token_mixing/Dense_1", "mlp_tokens.fc2"),
        **_norm("LayerNorm_1", "norm2"),
        **_dense("channel_mixing/Dense_0", "mlp_channels.fc1"),
        **_dense("channel_mixing/Dense_1", "mlp_channels.fc2"),
    },
    rest={**_stem("stem"), **_norm("pre_head_layer_norm", "norm")},
    head=_dense("head", "head"),
)

LEGACY = Layout(
    source="Google's Mixer (older names)",
    family="mixer",
    activation="tanh",
    block_prefix="Mixer/encoderblock_{}/",
    block={**_norm("LayerNorm_0", "norm1"), **_norm("LayerNorm_1", "norm2"), **dict(_legacy_mlps())},
    rest={**_stem("embedding"), **_norm("Mixer/encoder_norm", "norm")},
    head=_dense("head", "head"),
    singletons=True,
)


def write_google(model: Model, path: str | os.PathLike) -> list[str]:
    """Write an MLP-Mixer as Google's `.npz` (current names, float32, not compressed), atomically.

    Returns what the file cannot say, one line each: whatever reads it will assume Google's choice, tanh GELU for one.
    Raises `CannotWrite` for another network than a plain Mixer with equal blocks, and as `files.write_atomically` does.
    """
    check_writable(model, CURRENT, path)
    state = to_source(CURRENT, model.state_dict(), model.config.depth)
    arrays = {name: tensor.to("cpu", torch.float32).numpy() for name, tensor in state.items()}

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:  # numpy appends ".npz" to a path
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]  (no array is called allow_pickle)

    write_atomically(path, write)
    return what_is_lost(model, CURRENT)
