"""The networks: shapes and counts, padding, pooling before the shift, and how the weights begin."""

from __future__ import annotations

from functools import partial

import oracle
import pytest
import torch
import torch.nn.functional as F
from cases import close
from torch import nn

from innerloop.algorithms import anil, maml
from innerloop.models.few_shot import (
    ConvBlock,
    SpatialMean,
    conv4,
    conv_same,
    mini_imagenet_net,
    mlp,
    omniglot_net,
    reference_norm,
    resnet12,
)
from innerloop.norm import TaskNorm
from innerloop.outer import meta_gradient
from innerloop.tasks import Episodes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_mini_imagenet_net_has_800_features():
    model = mini_imagenet_net()
    assert list(model._modules) == ["block1", "block2", "block3", "block4", "features", "head"]
    assert count(model) == (3 * 9 * 32 + 32) + 3 * (32 * 9 * 32 + 32) + (800 * 5 + 5)
    x = torch.rand(2, 3, 84, 84, generator=seeded())
    sizes = []
    for block in list(model)[:4]:
        x = block(x)
        sizes.append(x.shape[-1])
    assert sizes == [42, 21, 10, 5]
    assert model[:-1](torch.rand(2, 3, 84, 84)).shape == (2, 800)
    assert model(torch.rand(2, 3, 84, 84)).shape == (2, 5)


def test_the_omniglot_net_has_64_features():
    model = omniglot_net()
    assert count(model) == (9 * 64 + 64) + 3 * (64 * 9 * 64 + 64) + (64 * 20 + 20)
    x = torch.rand(2, 1, 28, 28, generator=seeded())
    sizes = []
    for block in list(model)[:4]:
        x = block(x)
        sizes.append(x.shape[-1])
    assert sizes == [14, 7, 4, 2]
    assert model[:-1](torch.rand(2, 1, 28, 28)).shape == (2, 64)
    assert isinstance(model.features, SpatialMean)


@pytest.mark.parametrize("build", [omniglot_net, mini_imagenet_net])
def test_the_norm_of_the_presets_is_the_references(build):
    model = build(width=4)
    norms = [module for module in model.modules() if isinstance(module, TaskNorm)]
    assert len(norms) == 4
    for norm in norms:
        assert norm.weight is None
        assert norm.eps == 1e-3
        assert not norm.bias.any()
    assert all(module.bias is None for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("size", [28, 14, 7, 4, 5, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_padding_is_tensorflows_same(size, stride):
    conv = nn.Conv2d(2, 3, 3, stride).double()
    x = torch.randn(2, 2, size, size + (size > 4), generator=seeded(), dtype=torch.float64)
    got = conv_same(x, conv)
    close(got, oracle.conv_same(x, conv.weight, conv.bias, stride))
    assert got.shape[2:] == (-(-x.shape[2] // stride), -(-x.shape[3] // stride))


def test_the_odd_pixel_of_padding_is_right_and_below():
    """With an even size and stride 2 the first window covers pixels 0, 1, 2; with an odd one -1, 0, 1."""
    for size, stride, sees in ((28, 2, 1.0), (14, 2, 1.0), (7, 2, 0.0), (4, 2, 1.0), (28, 1, 0.0)):
        top_left = nn.Conv2d(1, 1, 3, stride, bias=False)
        with torch.no_grad():
            top_left.weight.zero_()[..., 0, 0] = 1.0
        assert conv_same(torch.ones(1, 1, size, size), top_left)[0, 0, 0, 0].item() == sees


def usual_order(block: ConvBlock, x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(F.relu(block.norm(conv_same(x, block.conv))), 2)


@pytest.mark.parametrize("size", [8, 7])
def test_pooling_before_the_shift_changes_nothing(size):
    block = ConvBlock(2, 5, reference_norm, "max").double()
    nn.init.normal_(block.norm.bias, generator=seeded(1))
    x = torch.randn(3, 2, size, size, generator=seeded(), dtype=torch.float64, requires_grad=True)
    inputs = [x, *block.parameters()]
    usual = usual_order(block, x)
    weights = torch.randn(usual.shape, generator=seeded(2), dtype=torch.float64)
    close(block(x), usual, 1e-14)
    for got, want in zip(
        *(torch.autograd.grad((out * weights).sum(), inputs) for out in (block(x), usual)), strict=True
    ):
        close(got, want, 1e-12)


def test_a_norm_with_a_scale_pools_last():
    block = ConvBlock(1, 3, TaskNorm, "max").double()
    nn.init.constant_(block.norm.weight, -1.0)  # turns the order of the pixels round
    x = torch.rand(2, 1, 6, 6, generator=seeded(), dtype=torch.float64)
    close(block(x), usual_order(block, x))


@pytest.mark.parametrize("pooling", ["max", "stride"])
def test_any_norm_and_its_bias(pooling):
    model = conv4(3, channels=1, size=16, width=4, pooling=pooling, norm=partial(nn.GroupNorm, 2))
    assert all(not block.conv.bias.any() for block in list(model)[:4])
    x, y = torch.rand(2, 3, 1, 16, 16), torch.arange(3).repeat(2, 1)
    assert maml(1)(model, Episodes(x, y, x, y)).shape == (1, 2, 3, 3)
    assert (
        mini_imagenet_net(size=20, channels=1, pooling="stride", spatial_mean=True)(torch.rand(2, 1, 20, 20)).shape[1]
        == 5
    )


def test_convolutions_begin_xavier_uniform():
    model = mini_imagenet_net(generator=seeded())
    for block, inputs in zip(list(model)[:4], (3, 32, 32, 32), strict=True):
        bound = (6 / (9 * (inputs + 32))) ** 0.5
        weight = block.conv.weight
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.98 * bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    bound = (6 / 805) ** 0.5
    assert 0.98 * bound < model.head.weight.abs().max() <= bound
    assert not model.head.bias.any()


def test_the_omniglot_head_begins_standard_normal():
    head = omniglot_net(generator=seeded()).head
    assert head.weight.std().item() == pytest.approx(1.0, abs=0.05)
    assert head.weight.mean().item() == pytest.approx(0.0, abs=0.1)
    assert head.weight.abs().max() > 2.5
    assert not head.bias.any()


def test_the_mlp_begins_as_the_sinusoid_net():
    model = mlp(1, 1, generator=seeded())
    assert count(model) == (40 + 40) + (40 * 40 + 40) + (40 + 1)
    assert list(model._modules) == ["layer1", "relu1", "layer2", "relu2", "head"]
    assert model(torch.zeros(7, 1)).shape == (7, 1)
    weights = torch.cat([p.flatten() for name, p in model.named_parameters() if "weight" in name])
    assert weights.abs().max() <= 0.02
    assert weights.std().item() == pytest.approx(0.0088, rel=0.05)  # of a normal cut at two deviations
    assert not any(p.any() for name, p in model.named_parameters() if "bias" in name)
    assert list(mlp(3, 2, ())._modules) == ["head"]


def test_resnet12():
    model = resnet12(4, widths=(4, 6, 8, 10), generator=seeded())
    x = torch.rand(2, 3, 32, 32, generator=seeded())
    sizes = [tuple((x := block(x)).shape[1:]) for block in list(model)[:4]]
    assert sizes == [(4, 16, 16), (6, 8, 8), (8, 4, 4), (10, 2, 2)]
    assert model.features(x).shape == (2, 10)
    assert list(model._modules)[-1] == "head"
    blocks = zip((3, 4, 6, 8), (4, 6, 8, 10), strict=True)
    weights = sum(9 * (a * b + 2 * b * b) + a * b + 4 * 2 * b for a, b in blocks)
    assert count(model) == weights + 10 * 4 + 4
    x, y = torch.rand(2, 4, 3, 16, 16, generator=seeded()), torch.arange(4).repeat(2, 1)
    assert anil(1)(model, Episodes(x, y, x, y)).shape == (1, 2, 4, 4)
    assert sum(p.numel() for p in resnet12().parameters()) == pytest.approx(12.4e6, rel=0.01)


@pytest.mark.parametrize("norm", [TaskNorm, reference_norm, partial(nn.GroupNorm, 2)])
def test_a_small_resnet_learns_batched_as_in_a_loop(norm):
    model = resnet12(2, size=8, widths=(2, 4), norm=norm, generator=seeded()).double()
    x, q = (torch.rand(2, n, 3, 8, 8, generator=seeded(n), dtype=torch.float64) for n in (4, 6))
    episodes = Episodes(x, torch.arange(2).repeat(2).expand(2, 4), q, torch.arange(2).repeat(3).expand(2, 6))
    gradients = []
    for chunk_size in (1, 2):
        model.zero_grad()
        meta_gradient(model, episodes, maml(2, 0.1), chunk_size=chunk_size)
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        close(one, other, 1e-10)
        assert one.any()


@pytest.mark.parametrize(
    "build",
    [omniglot_net, partial(mini_imagenet_net, size=20), partial(mlp, 2, 3), partial(resnet12, widths=(2, 3, 4, 5))],
)
def test_a_generator_makes_the_weights(build):
    torch.manual_seed(1)
    one = build(generator=seeded(7)).state_dict()
    torch.manual_seed(2)
    same, other = build(generator=seeded(7)).state_dict(), build(generator=seeded(8)).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="images of 15 pixels are too small for 4 poolings by 2: use 16 or more"):
        conv4(size=15)
    with pytest.raises(ValueError, match="images of 15 pixels are too small for 4 poolings by 2: use 16 or more"):
        resnet12(size=15)
    conv4(size=16)
    conv4(size=1, pooling="stride")


@pytest.mark.parametrize(("pooling", "sides"), [("max", (42, 21, 10, 5)), ("stride", (42, 21, 11, 6))])
def test_blocks_that_do_not_halve_leave_more_features(pooling, sides):
    assert conv4(size=42, pooling=pooling, halvings=3, width=2).head.in_features == 2 * sides[3] ** 2
    model = conv4(size=42, pooling=pooling, halvings=2, width=2)
    x = torch.rand(1, 3, 42, 42)
    for block in list(model)[:4]:
        x = block(x)
    assert x.shape[-1] == sides[2]
    assert model.head.in_features == 2 * sides[2] ** 2
    conv4(size=1, halvings=0)


def test_a_number_of_halvings_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="halvings must be 0 to 4, since conv4 has four blocks, got 5"):
        conv4(halvings=5)


def test_a_pooling_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="pooling must be 'max' or 'stride', got 'avg'"):
        conv4(pooling="avg")  # pyright: ignore[reportArgumentType]
