"""The derivatives of `batch_norm.halved`, written out.

With U the way back through the pooling and g as large as the pooled y, the first derivative is P(U g): see
`batch_norm` for P and its derivative.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from innerloop.kernels.channels import laid_out, wide
from innerloop.kernels.function import signed
from innerloop.kernels.standardised import bend, project, vmapped
from innerloop.kernels.task_axis import Dims, each_task, over_tasks

_CACHED = 6 * 2**20  # bytes of images that are worked on at a time


class Halved(torch.autograd.Function):
    """x, with an axis of tasks in front or without, to (pooled y, mean, r, where each came from)."""

    @staticmethod
    @signed
    def forward(x: Tensor, eps: float, tasks: bool) -> tuple[Any, ...]:
        if tasks:
            return each_task(lambda x: Halved.forward(x, eps, False), x)
        mean, variance = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)
        r = torch.rsqrt(variance + eps)
        pooled, where = torch.ops.aten.max_pool2d_with_indices(x, [2, 2])  # r is positive: y is largest where x is
        return pooled.sub_(wide(mean, x)).mul_(wide(r, x)), mean, r, where

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.eps, ctx.tasks = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, pooled, mean, r, where = ctx.saved_tensors
        gradient = HalvedGradient.apply if torch.is_grad_enabled() else HalvedGradient.forward
        return gradient(g, x, mean, r, pooled.detach(), where, ctx.eps, ctx.tasks)[0], None, None

    @staticmethod
    def vmap(info: Any, dims: Dims, *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        return over_tasks(Halved.apply, info.batch_size, dims, *inputs)


class HalvedGradient(torch.autograd.Function):
    """(g, x) to (P(U g), the sum of g, the sum of U g y), given what `Halved` found."""

    @staticmethod
    @signed
    def forward(
        g: Tensor, x: Tensor, mean: Tensor, r: Tensor, pooled: Tensor, where: Tensor, eps: float, tasks: bool
    ) -> tuple[Any, ...]:
        if tasks:
            return each_task(lambda *task: HalvedGradient.forward(*task, eps, False), g, x, mean, r, pooled, where)
        count, (mean, r) = x.numel() // x.shape[1], (wide(part, x) for part in (mean, r))
        total, slope = (part.sum((0, 2, 3), keepdim=True) for part in (g, g * pooled))
        of_x = -r * r * slope / count
        return _spread(g * r, x, where, of_x, of_x * mean + r * total / count), total.flatten(), slope.flatten()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.eps, ctx.tasks = inputs[-2:]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[:6], *output[1:])

    @staticmethod
    def backward(ctx: Any, v: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        g, x, where = (ctx.saved_tensors[i] for i in (0, 1, 5))
        if torch.is_grad_enabled():  # a third derivative may follow: all must be functions of g and x
            function = partial(_second_again, eps=ctx.eps)
            results = (vmapped(function) if ctx.tasks else function)(v, g, x, where)
        else:
            function = partial(_second, eps=ctx.eps)
            results = (partial(each_task, function) if ctx.tasks else function)(v, *ctx.saved_tensors)
        return *results, *[None] * 6

    @staticmethod
    def vmap(info: Any, dims: Dims, *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        return over_tasks(HalvedGradient.apply, info.batch_size, dims, *inputs)


def _second_again(v: Tensor, g: Tensor, x: Tensor, where: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """As `_second`, for a third derivative."""
    return _picked(project(v, x, eps), where), bend(v, _unpooled(g, x, where), x, eps)


def _second(
    v: Tensor, g: Tensor, x: Tensor, mean: Tensor, r: Tensor, pooled: Tensor, where: Tensor, *sums: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The derivative of `HalvedGradient` in the direction of v: by g and by x."""
    v, count = laid_out(v, x), x.numel() // x.shape[1]
    every = torch.ops.aten.native_batch_norm_backward
    _, v_slope, v_total = every(v, x, torch.ones_like(r), None, None, mean, r, True, eps, [False, True, True])
    g_mean, b, v_mean, a = (wide(total, x) / count for total in (*sums, v_total, v_slope))
    mean, r, v_picked = wide(mean, x), wide(r, x), _picked(v, where)
    scale, of_y = -r * r, (v_picked * g).sum((0, 2, 3), keepdim=True) / count - v_mean * g_mean - 3 * a * b
    by_x = _unpooled(g * (scale * a), x, where).addcmul_(v, scale * b).addcmul_(x, scale * of_y * r)
    by_x.sub_(scale * (b * v_mean + a * g_mean + of_y * r * mean))
    return r * (v_picked - v_mean - a * pooled), by_x


def _unpooled(g: Tensor, like: Tensor, where: Tensor, **out: Tensor) -> Tensor:
    """U g: zeros in the shape and layout of `like`, but where the pooled values came from."""
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    return backward(g, like.detach(), [2, 2], [2, 2], [0, 0], [1, 1], False, where, **out)


def _spread(g: Tensor, x: Tensor, where: Tensor, of_x: Tensor, constant: Tensor) -> Tensor:
    """U g + of_x x - constant; on a CPU few images at a time: what one pass writes, the next finds in the cache."""
    few = len(x) if x.is_cuda else max(_CACHED // x[:1].nbytes, 1)
    if few >= len(x):
        return _unpooled(g, x, where).addcmul_(x, of_x).sub_(constant)
    whole = torch.empty_like(x)
    for part, *some in zip(*(y.split(few) for y in (whole, g, x, where)), strict=True):
        _unpooled(*some, grad_input=part).addcmul_(some[1], of_x).sub_(constant)
    return whole


def _picked(v: Tensor, where: Tensor) -> Tensor:
    """The transpose of U: the values of v where the pooled ones came from."""
    return v.flatten(2).gather(2, where.flatten(2)).view_as(where)
