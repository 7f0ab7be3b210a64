"""What must hold for any weights: symmetries, independence of images, gradients everywhere, and that training works."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from allmlp.models.model import build
from allmlp.models.variants import create_model

EQUAL = 1e-12  # float64, sums of up to 100 terms near one in another order


def two_branches(test):
    """For the families that mix tokens and channels one after the other."""
    return pytest.mark.parametrize("config", ["mixer", "gmixer", "resmlp"], indirect=True)(test)


@two_branches
def test_channel_mixing_commutes_with_token_permutation(config, model):
    model.double()
    x_BSC = torch.randn(2, 30, config.width, dtype=torch.float64)
    order = torch.randperm(30)
    for block in model.blocks:
        mix = torch.nn.Sequential(block.norm2, block.mlp_channels)
        assert (mix(x_BSC[:, order]) - mix(x_BSC)[:, order]).abs().max() < EQUAL


@two_branches
def test_token_mixing_commutes_with_channel_permutation(config, model):
    model.double()
    x_BCS = torch.randn(2, config.width, 30, dtype=torch.float64)
    order = torch.randperm(config.width)
    for block in model.blocks:
        mix = block.linear_tokens if config.blocks[0].kind == "resmlp" else block.mlp_tokens
        assert (mix(x_BCS[:, order]) - mix(x_BCS)[:, order]).abs().max() < EQUAL


def test_token_mixing_does_not_commute_with_token_permutation(config, model, images):
    """Or the networks could not tell where a patch is: there is no positional embedding."""
    with torch.no_grad():
        assert (model(images.flip(-1)) - model(images)).abs().max() > 0.01


def shuffle_patches(images, patch_size, patch_order, pixel_order):
    """Patches put in another order and the pixels of each patch too, the same way for all images and patches."""
    patches = F.unfold(images, patch_size, stride=patch_size).unflatten(1, (images.shape[1], -1))  # (B, 3, pixels, S)
    shuffled = patches[:, :, pixel_order][..., patch_order].flatten(1, 2)
    return F.fold(shuffled, images.shape[2:], patch_size, stride=patch_size)


def test_shuffled_images_are_undone_by_shuffling_weights(config, model, images):
    """MLP-Mixer section 3.4: to the network an order of patches and of pixels within them is as good as any other."""
    model, images = model.double(), images.double()
    patch_order, pixel_order = torch.randperm(30), torch.randperm(4 * 8)
    with torch.no_grad():
        expected = model(images)
        kernel = model.stem.proj.weight
        kernel.copy_(kernel.flatten(2)[:, :, pixel_order].view_as(kernel))
        for name, parameter in model.named_parameters():
            layer, _, leaf = name.rpartition(".")
            takes = ("mlp_tokens.fc1", "linear_tokens", "gate.proj")
            gives = ("mlp_tokens.fc2", "linear_tokens", "gate.proj")
            if layer.endswith(takes) and leaf == "weight":
                parameter.copy_(parameter[:, patch_order])
            if layer.endswith(gives):
                parameter.copy_(parameter[patch_order])
        shuffled = shuffle_patches(images, config.patch_size, patch_order, pixel_order)
        assert (shuffled - images).abs().max() > 1
        assert (model(shuffled) - expected).abs().max() < EQUAL


@pytest.mark.parametrize("training", [True, False])
def test_an_images_logits_do_not_depend_on_the_batch(config, model, training):
    model.double().train(training)
    images = torch.randn(5, 3, *config.image_size, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([model(image) for image in images.split(1)])
        assert (model(images) - alone).abs().max() < EQUAL


def test_every_parameter_gets_a_gradient(config, model, images):
    F.cross_entropy(model.train()(images), torch.tensor([0, 1])).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_a_fresh_network_starts_learning_in_every_parameter_by_the_third_step(config, images):
    """The head starts at zero and the gates near a constant, so at first no gradient passes them; then all learn."""
    model = build(config).train()
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if parameter.equal(start[name])] == []


@pytest.mark.parametrize(("name", "activation"), [
    ("mixer_p2_8", None), ("mixer_p2_8", "swiglu"), ("resmlp_p2_8", None), ("gmlp_p2_8", None)
])
def test_eight_images_can_be_learnt_by_heart(name, activation):
    """Real digits, every second image with a wrong label, so that only remembering helps."""
    digits = load_digits()
    images = torch.tensor(digits.images[:8], dtype=torch.float32)[:, None].expand(-1, 3, -1, -1) / 8 - 1
    labels = torch.tensor(digits.target[:8])
    labels[::2] = labels[::2].roll(1)
    model = create_model(name, num_classes=10, activation=activation, seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    logits = model.eval()(images)
    assert F.cross_entropy(logits, labels) < 0.01
    assert logits.argmax(1).equal(labels)
