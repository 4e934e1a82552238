from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

from innerloop.models import conv4
from innerloop.similarity import activations, fold, mean_cca


class Tangled(nn.Module):
    """No Sequential: a layer that runs twice, one that never does, one that puts out a tuple."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(6, 6)
        self.memory = nn.GRU(6, 6)

    def forward(self, x):
        return self.memory(self.twice(self.twice(self.first(x))))[0]


def small():
    torch.manual_seed(0)
    parts = [("conv", nn.Conv2d(3, 4, 3)), ("norm", nn.BatchNorm2d(4)), ("relu", nn.ReLU(inplace=True))]
    return nn.Sequential(OrderedDict([*parts, ("flat", nn.Flatten()), ("head", nn.Linear(4 * 6 * 6, 5))]))


def images(n=10, size=8):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_children_with_parameters():
    model, x = small().eval(), images()
    outputs = activations(model, x)
    assert list(outputs) == ["conv", "norm", "head"]
    torch.testing.assert_close(outputs["conv"], model.conv(x))
    normed = model.norm(model.conv(x))
    assert normed.min() < 0
    torch.testing.assert_close(outputs["norm"], normed)  # the ReLU after it works in place
    torch.testing.assert_close(outputs["head"], model(x))
    assert not any(output.requires_grad for output in outputs.values())
    assert not hooks(model)


def test_layers_of_conv4():
    outputs = activations(conv4(5, size=28, width=4), images(size=28))
    assert list(outputs)[-1] == "head"
    assert len(outputs) == 5
    assert outputs["head"].shape == (10, 5)


def test_with_other_parameters():
    model, x = small().eval(), images()
    plain = activations(model, x)
    head = {"head.weight": torch.ones(5, 144), "head.bias": torch.zeros(5)}
    outputs = activations(model, x, params=head)
    assert torch.equal(outputs["norm"], plain["norm"])
    torch.testing.assert_close(outputs["head"], F.relu(plain["norm"]).flatten(1).sum(1, keepdim=True).expand(-1, 5))
    assert torch.equal(activations(model, x)["head"], plain["head"])
    whole = activations(model, x, params={**model.state_dict(), **head})
    assert torch.equal(whole["head"], outputs["head"])
    with pytest.raises(ValueError, match=r"no parameter tail\.weight"):
        activations(model, x, params={"tail.weight": torch.ones(5, 144)})


def test_a_batch_norm_in_train_mode_gathers_nothing():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    params = {**model.state_dict()}
    activations(model, images(), params=params)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(params[name], before[name])


def test_one_set_of_parameters_a_task():
    model, x = small().eval(), torch.stack([images(), images() + 1])
    heads = {"head.weight": torch.randn(2, 5, 144, generator=torch.Generator().manual_seed(2))}
    outputs = vmap(lambda params, x: activations(model, x, params=params))(heads, x)
    for i in range(2):
        alone = activations(model, x[i], params={"head.weight": heads["head.weight"][i]})
        for layer, output in alone.items():
            torch.testing.assert_close(outputs[layer][i], output)
    assert vmap(fold)(outputs["conv"]).shape == (2, 10 * 36, 4)


def test_named_layers_of_any_module():
    model, x = Tangled(), torch.rand(4, 6)
    assert list(activations(model, x, layers=["first", ""])) == ["first", ""]
    torch.testing.assert_close(activations(model, x, layers=["first"])["first"], model.first(x))
    for layers, message in [
        (None, "a Tangled is no Sequential.*pass layers"),
        (["frist"], "no layer is called frist. This model has first, twice, never, memory"),
        (["first", "twice"], "twice runs more than once"),
        (["never"], "never did not run"),
        (["memory"], "memory puts out a tuple"),
    ]:
        with pytest.raises(ValueError, match=message):
            activations(model, x, layers=layers)
        assert not hooks(model)
    with pytest.raises(RuntimeError):
        activations(model, torch.rand(4, 7), layers=["twice"])
    assert not hooks(model)


def test_fold_makes_pixels_data_points():
    outputs = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    folded = fold(outputs)
    assert folded.shape == (40, 3)
    assert torch.equal(folded[1 * 20 + 2 * 5 + 3], outputs[1, :, 2, 3])
    assert torch.equal(fold(outputs[:, :, 0, 0]), outputs[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"fold takes .* got \(3,\)"):
        fold(torch.zeros(3))


def test_the_axis_of_the_neurons():
    tokens = torch.arange(2 * 3 * 4).view(2, 3, 4)  # inputs, tokens, features
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\): say which axis holds the neurons, such as neurons=-1"):
        fold(tokens)
    assert torch.equal(fold(tokens, -1), tokens.flatten(0, 1))
    assert torch.equal(fold(tokens, 2), tokens.flatten(0, 1))
    assert torch.equal(fold(tokens, 1), tokens.mT.flatten(0, 1))
    last = torch.rand(2, 5, 6, 3)  # a conv map with its channels last
    assert torch.equal(fold(last, neurons=-1), fold(last.movedim(-1, 1)))
    for axis in (0, 3, -3):
        with pytest.raises(ValueError, match=r"an axis of \(2, 3, 4\) after the first"):
            fold(tokens, axis)


def test_a_layer_that_did_not_adapt_is_one():
    model, x = conv4(5, size=28, width=8), images(40, 28)
    before = activations(model, x)
    draw = torch.Generator().manual_seed(3)
    after = activations(model, x, params={"head.weight": torch.randn(model.head.weight.shape, generator=draw)})
    for layer in before:
        value = mean_cca(fold(before[layer]), fold(after[layer])).value
        assert value < 0.98 if layer == "head" else value.item() == pytest.approx(1, abs=1e-6)
