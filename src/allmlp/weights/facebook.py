"""Facebook's ResMLP (deit's `resmlp_models.py`): a bare state dict, GELU with erf, no transposition.

Its distilled checkpoints have the same single head. Its DINO checkpoints may come without one.
"""

from allmlp.weights.layout import FLAT_AFFINE, KERNEL, MATRIX, VECTOR, Layout

RESMLP = Layout(
    source="Facebook's ResMLP",
    family="resmlp",
    activation="erf",
    block_prefix="blocks.{}.",
    block={
        "norm1.alpha": ("norm1.alpha", FLAT_AFFINE),
        "norm1.beta": ("norm1.beta", FLAT_AFFINE),
        "attn.weight": ("linear_tokens.weight", MATRIX),
        "attn.bias": ("linear_tokens.bias", VECTOR),
        "gamma_1": ("ls1", VECTOR),
        "norm2.alpha": ("norm2.alpha", FLAT_AFFINE),
        "norm2.beta": ("norm2.beta", FLAT_AFFINE),
        "mlp.fc1.weight": ("mlp_channels.fc1.weight", MATRIX),
        "mlp.fc1.bias": ("mlp_channels.fc1.bias", VECTOR),
        "mlp.fc2.weight": ("mlp_channels.fc2.weight", MATRIX),
        "mlp.fc2.bias": ("mlp_channels.fc2.bias", VECTOR),
        "gamma_2": ("ls2", VECTOR),
    },
    rest={
        "patch_embed.proj.weight": ("stem.proj.weight", KERNEL),
        "patch_embed.proj.bias": ("stem.proj.bias", VECTOR),
        "norm.alpha": ("norm.alpha", FLAT_AFFINE),
        "norm.beta": ("norm.beta", FLAT_AFFINE),
    },
    head={"head.weight": ("head.weight", MATRIX), "head.bias": ("head.bias", VECTOR)},
)
