"""What is counted layer by layer equals what PyTorch keeps; the peak equals what a real step reaches."""

import math

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from allmlp.inspection.flops import count_parameters
from allmlp.models.config import ModelConfig
from allmlp.models.fold import fold
from allmlp.models.variants import VARIANTS, build, create_model, model_config
from allmlp.plan.activations import kept_by_block, kept_bytes, largest_block_bytes
from allmlp.plan.counts import counts
from allmlp.plan.machines import MACHINES
from allmlp.plan.memory import fits, training_memory

PEAK_TOLERANCE = 0.06  # the plan's peak over the measured one: it adds up what is not all there at once


def bytes_kept(model: torch.nn.Module, images: int) -> int:
    """Storage that autograd holds after a forward pass and the loss, weights left out."""
    config = model.config
    assert isinstance(config, ModelConfig)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other tensor takes its place
        return tensor

    pixels = torch.rand(images, config.in_channels, *config.image_size)
    targets = torch.rand(images, config.num_classes)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        torch.nn.functional.cross_entropy(model(pixels), targets)
    return sum(storage.nbytes() for storage in kept.values())


SMALL = {name: model_config(name) for name in ("mixer_p2_8", "resmlp_p2_8", "gmlp_p2_8")}
SMALL["gmixer"] = model_config("gmixer_12_224", image_size=(32, 48), num_classes=7)
SMALL["mixer, not square"] = model_config("mixer_t8_64", image_size=(24, 64), num_classes=3, in_channels=1)
SMALL |= {name: model_config(f"resmlp_{name}_12_224", image_size=64, num_classes=3).with_(depth=2, width=24)
          for name in ("no_layerscale", "no_interaction", "mlp", "conv", "depthwise", "separable", "classmlp",
                       "layernorm")}
SMALL["class-MLP, LayerNorm"] = SMALL["layernorm"].with_(global_pool="class_mlp")
SMALL |= {name: model_config(f"mixer_{name}_s32_224", num_classes=3).with_(depth=2, width=24)
          for name in ("untied", "grouped", "views")}


@pytest.mark.parametrize("name", SMALL)
def test_activations_are_counted_to_the_byte(name: str):
    config = SMALL[name]
    assert bytes_kept(build(config).train(), 3) == 3 * kept_bytes(config, "fp32")


@pytest.mark.parametrize("name", ["mixer_p2_8", "resmlp_p2_8"])
def test_folded_networks_keep_less_and_are_counted_too(name: str):
    folded = fold(create_model(name, seed=0)).train()
    assert bytes_kept(folded, 2) == 2 * kept_bytes(folded.config, "fp32")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_can_be_counted_in_bf16_and_checkpointed(name: str):
    config = VARIANTS[name]
    full = kept_bytes(config, "fp32")
    assert full / 2 < kept_bytes(config, "bf16") < full
    assert kept_bytes(config, "fp32", checkpointing=True) + largest_block_bytes(config, "fp32") < full


def test_mixer_b16_in_bf16_is_the_sum_written_out():
    tokens, width, hidden = 196, 768, 384 * 768 + 3072 * 196
    linear = 2 * (2 * tokens * width + 2 * hidden)  # bytes of what products and GELU keep
    norms = 4 * (2 * tokens * width + 4 * tokens)
    assert kept_by_block(VARIANTS["mixer_b16_224"].blocks[0], width, tokens).bytes("bf16") == linear + norms


@pytest.mark.slow
@pytest.mark.parametrize(("name", "checkpointing"), [("mixer_t8_96", False), ("mixer_t8_96", True),
                                                     ("resmlp_12_p32_224", False), ("gmlp_ti16_224", False)])
def test_the_peak_is_that_of_a_real_step(name: str, checkpointing: bool):
    from torch.distributed._tools.mem_tracker import MemTracker

    model, images = create_model(name, seed=0).train(), 4
    model.set_grad_checkpointing(checkpointing)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        pixels = torch.randint(256, (images, 3, *model.config.image_size), dtype=torch.uint8)
        loss = torch.nn.functional.cross_entropy(model(pixels.float() / 255), torch.rand(images, 1000))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # the optimizer's moments exist from now on
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        step()
    measured = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    planned = training_memory(model.config, images, "fp32", checkpointing=checkpointing).peak
    assert 1 <= planned / measured <= 1 + PEAK_TOLERANCE


def test_sharding_divides_what_stays_and_checkpointing_what_passes():
    config = VARIANTS["mixer_l16_224"]
    weights = count_parameters(config)
    one = training_memory(config, 32, "bf16", devices=8)
    shared = training_memory(config, 32, "bf16", devices=8, sharding="fsdp")
    thrifty = training_memory(config, 32, "bf16", devices=8, checkpointing=True)
    assert one.moments == 8 * weights
    assert shared.moments == 2 * math.ceil(weights / 2)
    assert shared.gradients == one.gradients / 8
    assert shared.gathered == 12 * counts(config).largest_layer
    assert thrifty.peak < one.peak / 2
    assert shared.peak < one.peak


def test_a_network_fits_where_its_peak_and_the_reserve_do():
    memory = training_memory(VARIANTS["mixer_b16_224"], 64, "bf16")
    assert fits(memory, MACHINES["t4"])
    assert not fits(training_memory(VARIANTS["mixer_b16_224"], 512, "bf16"), MACHINES["t4"])


def test_the_largest_layer_is_a_block_or_what_is_outside_of_blocks():
    assert counts(VARIANTS["mixer_b16_224"]).largest_layer == (59_111_472 - 768 * (768 + 1) - 2 * 768) // 12
    tiny = model_config("mixer_p2_8", num_classes=21_843)
    assert counts(tiny).largest_layer == 21_843 * 65 + 64 * 13 + 2 * 64
