"""The convolution and its derivatives against PyTorch's own, alone and batched over tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from innerloop.kernels.conv import convolve

HOW = [(1, (1, 1, 1, 1)), (2, (0, 1, 0, 1)), (2, (1, 1, 0, 1)), (1, (0, 0, 0, 0))]  # stride, pads


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def usual(x: torch.Tensor, w: torch.Tensor, stride: int, pads: tuple[int, ...]) -> torch.Tensor:
    return F.conv2d(F.pad(x, pads), w, None, stride)


@pytest.mark.parametrize(("stride", "pads"), HOW)
@pytest.mark.parametrize("channels_last", [False, True])
def test_values_and_two_derivatives(stride, pads, channels_last):
    x, w = numbers(2, 2, 5, 4), numbers(3, 2, 3, 3, seed=1)
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(convolve(x, w, stride, pads), usual(x, w, stride, pads))
    assert gradcheck(lambda x, w: convolve(x, w, stride, pads), (x, w))
    assert gradgradcheck(lambda x, w: convolve(x, w, stride, pads).sin(), (x, w))


@pytest.mark.parametrize("fixed", ["x", "w"])
def test_one_of_both_may_be_fixed(fixed):
    x, w = numbers(2, 2, 4, 4), numbers(3, 2, 3, 3, seed=1)
    (x if fixed == "x" else w).requires_grad_(False)
    assert gradgradcheck(lambda x, w: convolve(x, w, 2, (0, 1, 0, 1)).sin(), (x, w))


def test_the_third_derivative():
    x, w = numbers(2, 1, 3, 3), numbers(2, 1, 3, 3, seed=1)

    def first(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(convolve(x, w, 2, (0, 1, 0, 1)).exp().sum(), [x, w], create_graph=True)

    assert gradgradcheck(first, (x, w))


@pytest.mark.parametrize(("stride", "pads"), HOW)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shared", ["x", "w", "none"])
def test_second_derivatives_batched_over_tasks(stride, pads, nested, shared):
    axes = (2, 3) if nested else (3,)
    x = numbers(*(() if shared == "x" else axes), 2, 2, 5, 4)
    w = numbers(*(() if shared == "w" else axes), 3, 2, 3, 3, seed=1)
    dims = (None if shared == "x" else 0, None if shared == "w" else 0)

    def batched(function) -> torch.Tensor:
        def step(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            by_x, by_w = grad(lambda x, w: function(x, w, stride, pads).sin().sum(), (0, 1))(x, w)
            return by_x.square().sum() + by_w.exp().sum()

        step = vmap(step, dims)
        return (vmap(step, dims) if nested else step)(x, w)

    got, want = batched(convolve), batched(usual)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(values.sum(), [x, w]) for values in (got, want)))
