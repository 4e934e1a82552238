"""Every way to convolve tasks against PyTorch's own convolution, task by task, and the choice among them."""

from __future__ import annotations

import json

import pytest
import torch
from small_net import X, Y, maml, numbers, ours, params, usual
from test_conv import HOW
from test_conv import usual as usual_conv
from torch.func import grad, vmap

from innerloop.kernels import per_task_conv
from innerloop.kernels.conv import convolve
from innerloop.kernels.per_task_conv import WAYS, Choices, choosing


class Always(Choices):
    """One way, whatever the shape."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def way(self, *_):
        return WAYS[self.name]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(("stride", "pads"), HOW)
@pytest.mark.parametrize("channels_last", [False, True])
def test_two_derivatives_of_every_way(name, stride, pads, channels_last):
    x, w = numbers(3, 2, 2, 5, 4), numbers(3, 4, 2, 3, 3, seed=1)
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)

    def batched(function):
        def step(x, w):
            by_x, by_w = grad(lambda x, w: function(x, w, stride, pads).sin().sum(), (0, 1))(x, w)
            return by_x.square().sum() + by_w.exp().sum()

        tensors = x.requires_grad_(), w.requires_grad_()
        values = vmap(step)(*tensors)
        return values, *torch.autograd.grad(values.sum(), tensors)

    with choosing(Always(name)):
        got = batched(convolve)
    torch.testing.assert_close(got, batched(usual_conv))


@pytest.mark.parametrize("name", WAYS)
def test_the_third_order_of_every_way(name):
    def third(net):
        return grad(lambda p: vmap(maml(net, 2), (None, 0, 0))(p, X, Y).sum())(params())

    with choosing(Always(name)):
        got = third(ours)
    torch.testing.assert_close(got, third(usual), rtol=1e-9, atol=1e-9)


def run(choices):
    with choosing(choices):
        return vmap(lambda x, w: convolve(x, w, 1, (1, 1, 1, 1)))(numbers(2, 3, 2, 4, 4), numbers(2, 5, 2, 3, 3))


KEY = "2x3x2x4x4 * 2x5x2x3x3, stride 1, padding 1, float64, cpu"


@pytest.mark.parametrize("fastest", WAYS)
def test_the_fastest_is_chosen_once_and_recorded(fastest, monkeypatch):
    measured = []

    def seconds(way, *_):
        measured.append(way)
        return 1.0 if way is WAYS[fastest] else 2.0

    monkeypatch.setattr(per_task_conv, "_seconds", seconds)
    choices = Choices()
    outputs = run(choices)
    assert choices.record == {KEY: fastest}
    assert len(measured) == len(WAYS)
    assert torch.equal(run(choices), outputs)
    assert torch.equal(run(Choices(json.loads(json.dumps(choices.record)))), outputs)
    assert len(measured) == len(WAYS), "a known shape is not measured again"


def test_measuring_gives_some_way():
    choices = Choices()
    torch.testing.assert_close(run(choices), run(Always("loop")))
    assert choices.record[KEY] in WAYS


def test_outside_it_loops():
    assert per_task_conv.chosen(*numbers(2, 2, 3, 2, 4, 4), 1, 1) is WAYS["loop"]
    with pytest.raises(RuntimeError, match="stop"), choosing(Choices()):
        raise RuntimeError("stop")
    assert not per_task_conv.is_choosing()


def test_a_way_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"no way to convolve called winograd. There are loop, groups, matrices"):
        Choices({KEY: "winograd"})
