"""Batch norm's standardisation: derivatives against finite differences, and both ways of batching over tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from innerloop.kernels import task_axis as by_task
from innerloop.kernels.batch_norm import halved, standardise


def images(*shape: int, channels_last: bool = False) -> torch.Tensor:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    return x.requires_grad_()


@pytest.mark.parametrize("x", [images(4, 3, 3, 2), images(4, 3, 3, 2, channels_last=True), images(7, 3)])
def test_values_and_two_derivatives(x):
    over = [0, *range(2, x.ndim)]
    expected = (x - x.mean(over, keepdim=True)) / (x.var(over, correction=0, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(standardise(x, 1e-3), expected)
    assert gradcheck(lambda x: standardise(x, 1e-3), x)
    assert gradgradcheck(lambda x: standardise(x, 1e-3).sin(), x)


@pytest.mark.parametrize("large", [0, 2**40], ids=["task by task", "as channels"])
def test_second_derivatives_batched_over_tasks(large, monkeypatch):
    monkeypatch.setattr(by_task, "LARGE", large)
    x, weight = images(3, 4, 2, 3, 3), torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)

    def step(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda w: standardise(x * w.view(2, 1, 1), 1e-3).exp().mean())(weight).square().sum()

    batched = vmap(step)(x).sum()
    looped = sum(step(task) for task in x)
    torch.testing.assert_close(batched, looped)
    together = torch.autograd.grad(batched, [x, weight])
    torch.testing.assert_close(together, torch.autograd.grad(looped, [x, weight]))


SIZES = [images(3, 2, 5, 4), images(3, 2, 4, 4, channels_last=True)]


@pytest.mark.parametrize("cached", [0, 2**30], ids=["an image at a time", "all at once"])
@pytest.mark.parametrize("x", SIZES)
def test_pooling_in_the_same_pass(x, cached, monkeypatch):
    monkeypatch.setattr("innerloop.kernels.pooled._CACHED", cached)
    torch.testing.assert_close(halved(x, 1e-3), F.max_pool2d(standardise(x, 1e-3), 2))
    assert gradcheck(lambda x: halved(x, 1e-3), x)
    assert gradgradcheck(lambda x: halved(x, 1e-3).sin(), x)


@pytest.mark.parametrize("x", SIZES)
def test_its_third_derivative(x):
    def first(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(halved(x, 1e-3).exp().sum(), x, create_graph=True)[0]

    assert gradgradcheck(first, x)


@pytest.mark.parametrize("large", [0, 2**40], ids=["task by task", "as channels"])
def test_pooling_batched_over_tasks(large, monkeypatch):
    monkeypatch.setattr(by_task, "LARGE", large)
    x, weight = images(2, 3, 4, 2, 4, 5), torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)

    def task(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda w: halved(x * w.view(2, 1, 1), 1e-3).exp().mean())(weight).square().sum()

    batched = vmap(vmap(task))(x)
    looped = torch.stack([torch.stack([task(one) for one in some]) for some in x])
    torch.testing.assert_close(batched, looped)
    gradients = [torch.autograd.grad(values.sum(), [x, weight]) for values in (batched, looped)]
    torch.testing.assert_close(*gradients)


def test_the_third_derivative():
    x = images(4, 2, 2, 1)

    def first(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(standardise(x, 1e-3).exp().sum(), x, create_graph=True)[0]

    assert gradgradcheck(first, x)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("x", [images(4, 3, 3, 2), images(4, 3, 3, 2, channels_last=True), images(7, 3)])
def test_shift_and_relu_in_the_same_pass(x, relu):
    shift = torch.tensor([0.3, -0.4, 0.1], dtype=torch.float64, requires_grad=True)

    def apart(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        y = standardise(x, 1e-3) + shift.view(-1, *[1] * (x.ndim - 2))
        return y.relu() if relu else y

    def together(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return standardise(x, 1e-3, shift, relu=relu)

    torch.testing.assert_close(together(x, shift), apart(x, shift))
    assert gradcheck(together, (x, shift))
    assert gradgradcheck(lambda *inputs: together(*inputs).sin(), (x, shift))


@pytest.mark.parametrize("large", [0, 2**40], ids=["task by task", "as channels"])
def test_a_vmap_in_a_vmap(large, monkeypatch):
    monkeypatch.setattr(by_task, "LARGE", large)
    x, shift = images(2, 3, 4, 2, 3, 3), torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)

    def task(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda b: standardise(x, 1e-3, b, relu=True).exp().mean())(shift).square().sum()

    batched = vmap(vmap(task))(x)
    looped = torch.stack([torch.stack([task(one) for one in some]) for some in x])
    torch.testing.assert_close(batched, looped)
    gradients = [torch.autograd.grad(values.sum(), [x, shift]) for values in (batched, looped)]
    torch.testing.assert_close(*gradients)
