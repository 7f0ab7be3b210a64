"""timm's `mlp_mixer.py`: Mixer, gmixer, ResMLP, gMLP. Its names are ours; GELU with erf.

A checkpoint written by `allmlp.save` loads in timm as it is, since timm ignores what else the file says. `write_timm`
writes what timm itself would have saved.
"""

import os
from pathlib import Path

from allmlp.errors import CannotWrite
from allmlp.files import save_tensors
from allmlp.models.model import Model, ModelConfig
from allmlp.models.variants import VARIANTS
from allmlp.weights.infer import family_of
from allmlp.weights.layout import AFFINE, KERNEL, MATRIX, VECTOR, Layout, Names, to_source
from allmlp.weights.lost import check_writable, same_shape, what_is_lost

TIMM_NAMES = (
    "mixer_s32_224", "mixer_s16_224", "mixer_b32_224", "mixer_b16_224", "mixer_l32_224", "mixer_l16_224",
    "gmixer_12_224", "gmixer_24_224",
    "resmlp_12_224", "resmlp_24_224", "resmlp_36_224", "resmlp_big_24_224",
    "gmlp_ti16_224", "gmlp_s16_224", "gmlp_b16_224",
)  # fmt: skip


def _linear(name: str) -> Names:
    return {f"{name}.weight": (f"{name}.weight", MATRIX), f"{name}.bias": (f"{name}.bias", VECTOR)}


def _layer_norm(name: str) -> Names:
    return {f"{name}.weight": (f"{name}.weight", VECTOR), f"{name}.bias": (f"{name}.bias", VECTOR)}


def _affine(name: str) -> Names:
    return {f"{name}.alpha": (f"{name}.alpha", AFFINE), f"{name}.beta": (f"{name}.beta", AFFINE)}


STEM: Names = {"stem.proj.weight": ("stem.proj.weight", KERNEL), "stem.proj.bias": ("stem.proj.bias", VECTOR)}

MIXER = Layout(
    source="timm's Mixer",
    family="mixer",
    activation="erf",
    block_prefix="blocks.{}.",
    block={
        **_layer_norm("norm1"), **_linear("mlp_tokens.fc1"), **_linear("mlp_tokens.fc2"),
        **_layer_norm("norm2"), **_linear("mlp_channels.fc1"), **_linear("mlp_channels.fc2"),
    },
    rest={**STEM, **_layer_norm("norm")},
    head=_linear("head"),
    may_be_gated=True,
)  # fmt: skip

RESMLP = Layout(
    source="timm's ResMLP",
    family="resmlp",
    activation="erf",
    block_prefix="blocks.{}.",
    block={
        "ls1": ("ls1", VECTOR), "ls2": ("ls2", VECTOR),
        **_affine("norm1"), **_linear("linear_tokens"),
        **_affine("norm2"), **_linear("mlp_channels.fc1"), **_linear("mlp_channels.fc2"),
    },
    rest={**STEM, **_affine("norm")},
    head=_linear("head"),
)  # fmt: skip

GMLP = Layout(
    source="timm's gMLP",
    family="gmlp",
    activation="erf",
    block_prefix="blocks.{}.",
    block={
        **_layer_norm("norm"), **_linear("mlp_channels.fc1"),
        **_layer_norm("mlp_channels.gate.norm"), **_linear("mlp_channels.gate.proj"), **_linear("mlp_channels.fc2"),
    },
    rest={**STEM, **_layer_norm("norm")},
    head=_linear("head"),
)  # fmt: skip

LAYOUTS = {layout.family: layout for layout in (MIXER, RESMLP, GMLP)}


def write_timm(model: Model, path: str | os.PathLike) -> list[str]:
    """Write the state dict that `timm.create_model(name, checkpoint_path=path)` loads, atomically, in its own dtype.

    Returns what the file cannot say, one line each: timm computes the erf GELU, for one. Raises `CannotWrite` for a
    path that does not end in .safetensors (timm goes by the name), for a network that timm's skeleton cannot be
    (blocks that differ), and as `files.save_tensors` does.
    """
    if Path(path).suffix != ".safetensors":
        raise CannotWrite(f"{path}: timm reads a state dict by its name, which must end in .safetensors")
    layout = LAYOUTS[family_of(model.config)]
    check_writable(model, layout, path)
    save_tensors(to_source(layout, model.state_dict(), model.config.depth), path, {"format": "pt"})
    notes = what_is_lost(model, layout)
    if timm_name(model.config) is None:
        notes.append("timm has no network of these widths and depth by name; build its MlpMixer with them")
    return notes


def timm_name(config: ModelConfig) -> str | None:
    """timm's name for a network of this patch, width, depth and blocks (its image size and classes may be others)."""
    return next((name for name in TIMM_NAMES if same_shape(VARIANTS[name], config)), None)
