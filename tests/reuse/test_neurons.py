"""Layers that put out (n, tokens, features): the axis of the neurons is asked for, never guessed."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from innerloop.algorithms import maml
from innerloop.inner import adapt
from innerloop.reuse.adaptation import change
from innerloop.reuse.networks import resemblance
from innerloop.reuse.probe import probe
from innerloop.similarity import activations, linear_cka
from innerloop.tasks import Episodes


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def network():
    torch.manual_seed(0)
    parts = [("embed", nn.Linear(4, 6)), ("relu", nn.ReLU()), ("mean", Mean()), ("head", nn.Linear(6, 3))]
    return nn.Sequential(OrderedDict(parts))


def tasks():
    draw = torch.Generator().manual_seed(1)
    x, q = torch.randn(2, 6, 5, 4, generator=draw), torch.randn(2, 30, 5, 4, generator=draw)
    return [Episodes(x, torch.arange(3).repeat(2).expand(2, 6), q, torch.arange(3).repeat(10).expand(2, 30))]


INNER = maml(2, 0.5)
CALLS = [
    lambda **more: change(network(), tasks(), INNER, **more),
    lambda **more: resemblance(network(), network(), tasks(), INNER, **more),
    lambda **more: probe(network(), tasks(), INNER, **more),
]


@pytest.mark.parametrize("call", CALLS)
def test_the_axis_is_asked_for(call):
    with pytest.raises(
        ValueError, match=r"embed cannot be compared .* got \(30, 5, 6\): say which axis holds the neurons"
    ):
        call()
    with pytest.raises(ValueError, match=r"embed cannot be compared .* say which axis"):
        call(neurons={"head": -1})
    call(neurons={"embed": -1})


def test_features_are_the_neurons():
    model, episodes = network(), tasks()
    found = change(model, episodes, INNER, neurons=-1)
    expected = []
    for i in range(2):
        after = adapt(model, episodes[0].support_x[i], episodes[0].support_y[i], INNER)
        pre, post = (activations(model, episodes[0].query_x[i], ["embed"], part)["embed"] for part in ({}, after))
        expected.append(linear_cka(pre.flatten(0, 1), post.flatten(0, 1)).value)
    assert found.cka["embed"] == pytest.approx(float(sum(expected)) / 2, abs=1e-9)
    assert found.points == {"embed": 150, "head": 30}
