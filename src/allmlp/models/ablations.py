"""The papers' ablations as networks by name: `resmlp_<change>_<depth>_224`, `mixer_<change>_<size>_224`.

ResMLP's Table 3 and appendix D.3 change one thing of S12 (class-MLP also of S24 and S36). LayerScale off is ours: the
paper keeps it throughout. Of MLP-Mixer's appendix A.1 the hidden widths and G are not published; here they are S/32's
own and 4.
"""

from typing import Any

from allmlp.models.blocks import BlockConfig
from allmlp.models.blocks.mixer_variants import MixerVariantConfig
from allmlp.models.blocks.resmlp import ResMLPConfig
from allmlp.models.blocks.resmlp_ablation import ResMLPAblationConfig
from allmlp.models.config import ModelConfig
from allmlp.models.layers import AffineConfig, LayerNormConfig

WIDTH, TOKENS = 384, 196


def _resmlp(block: BlockConfig, depth: int = 12, **fields: Any) -> ModelConfig:
    return ModelConfig(image_size=(224, 224), patch_size=(16, 16), width=WIDTH, depth=depth, blocks=(block,),
                       **{"norm": AffineConfig(), "init": "deit", **fields})


def _exchanged(**fields: Any) -> ModelConfig:
    return _resmlp(ResMLPAblationConfig(**{"channel_hidden": 4 * WIDTH, "layer_scale": 0.1, **fields}))


def _class_mlp(depth: int, layer_scale: float) -> ModelConfig:
    return _resmlp(ResMLPConfig(channel_hidden=4 * WIDTH, layer_scale=layer_scale), depth, global_pool="class_mlp")


def _mixer_s32(**fields: Any) -> ModelConfig:
    block = MixerVariantConfig(token_hidden=256, channel_hidden=2048, **fields)
    return ModelConfig(image_size=(224, 224), patch_size=(32, 32), width=512, depth=8, blocks=(block,))


ABLATIONS: dict[str, ModelConfig] = {
    "resmlp_layernorm_12_224": _resmlp(
        ResMLPConfig(channel_hidden=4 * WIDTH, layer_scale=0.1, norm=LayerNormConfig()), norm=LayerNormConfig()),
    "resmlp_no_layerscale_12_224": _exchanged(layer_scale=None),
    "resmlp_no_interaction_12_224": _exchanged(interaction="removed"),
    "resmlp_mlp_12_224": _exchanged(interaction="mlp", token_hidden=4 * TOKENS),
    "resmlp_conv_12_224": _exchanged(interaction="conv"),
    "resmlp_depthwise_12_224": _exchanged(interaction="depthwise"),
    "resmlp_separable_12_224": _exchanged(interaction="separable"),
    "resmlp_classmlp_12_224": _class_mlp(12, 0.1),
    "resmlp_classmlp_24_224": _class_mlp(24, 1e-5),
    "resmlp_classmlp_36_224": _class_mlp(36, 1e-6),
    "mixer_untied_s32_224": _mixer_s32(mixing="untied"),
    "mixer_grouped_s32_224": _mixer_s32(mixing="grouped", groups=4),
    "mixer_views_s32_224": _mixer_s32(mixing="views", groups=4),
}  # fmt: skip
