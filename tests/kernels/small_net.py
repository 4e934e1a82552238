"""A small network out of the kernels, and the same out of PyTorch's own operations, to hold one against the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from innerloop.kernels.batch_norm import halved, standardise
from innerloop.kernels.conv import convolve

EPS = 1e-3
Params = tuple[Tensor, ...]
Net = Callable[[Params, Tensor], Tensor]


def ours(params: Params, x: Tensor) -> Tensor:
    first, shift, second = params
    x = standardise(convolve(x, first, 1, (1, 1, 1, 1)), EPS, shift, relu=True)
    return halved(convolve(x, second, 2, (0, 1, 0, 1)), EPS).flatten(1)


def usual(params: Params, x: Tensor) -> Tensor:
    first, shift, second = params
    x = (plain(F.conv2d(x, first, None, 1, 1)) + shift.view(-1, 1, 1)).relu()
    return F.max_pool2d(plain(F.conv2d(F.pad(x, (0, 1, 0, 1)), second, None, 2)), 2).flatten(1)


def plain(x: Tensor) -> Tensor:
    over = (0, 2, 3)
    return (x - x.mean(over, keepdim=True)) / (x.var(over, correction=0, keepdim=True) + EPS).sqrt()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def params(seed: int = 0) -> Params:
    return numbers(4, 2, 3, 3, seed=seed), numbers(4, seed=seed + 1), numbers(3, 4, 3, 3, seed=seed + 2)


X, Y = numbers(2, 5, 2, 8, 8, seed=7), numbers(2, 5, 12, seed=8)  # two tasks


def loss(net: Net) -> Callable[..., Tensor]:
    return lambda p, x, y: (net(p, x) - y).square().mean() + net(p, x).pow(3).mean()


def maml(net: Net, steps: int) -> Callable[..., Tensor]:
    """One task's loss after so many steps of gradient descent: order steps + 1 in its derivatives."""

    def objective(p: Params, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(steps):
            p = tuple(a - 0.1 * b for a, b in zip(p, grad(loss(net))(p, x, y), strict=True))
        return loss(net)(p, x, y)

    return objective
