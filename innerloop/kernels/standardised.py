"""The derivatives of `batch_norm.standardise`, written out; the formulas stand there."""

# pyright: reportIncompatibleMethodOverride=false, reportOptionalSubscript=false

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from innerloop.kernels.channels import channel_mean, laid_out, wide
from innerloop.kernels.function import signed
from innerloop.kernels.task_axis import Dims, each_task, over_tasks

_Sums = tuple[Tensor, Tensor, Tensor]


class Standardise(torch.autograd.Function):
    """x and shift, both with an axis of tasks in front or neither, to (output, mean, r)."""

    @staticmethod
    @signed
    def forward(x: Tensor, shift: Tensor | None, eps: float, relu: bool, tasks: bool) -> tuple[Any, ...]:
        if tasks:
            return each_task(lambda x, shift: Standardise.forward(x, shift, eps, relu, False), x, shift)
        output, mean, r = torch.native_batch_norm(x, None, shift, None, None, True, 0.0, eps)
        return output.relu_() if relu else output, mean, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        y, mean, r = output
        _, _, ctx.eps, relu, ctx.tasks = inputs
        ctx.mark_non_differentiable(mean, r)
        ctx.save_for_backward(inputs[0], mean, r, y if relu else None)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, r, output = ctx.saved_tensors
        gradient = Gradient.apply if torch.is_grad_enabled() else Gradient.forward
        output = None if output is None else output.detach()
        by_x, by_shift, _ = gradient(g, x, mean, r, output, ctx.eps, ctx.tasks)
        return by_x, by_shift if ctx.needs_input_grad[1] else None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: Dims, *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        return over_tasks(Standardise.apply, info.batch_size, dims, *inputs)


class Gradient(torch.autograd.Function):
    """(g, x) to (P(g), the sum of g, the sum of g y), given the mean and r of x and, after a ReLU, its output."""

    @staticmethod
    @signed
    def forward(
        g: Tensor, x: Tensor, mean: Tensor, r: Tensor, output: Tensor | None, eps: float, tasks: bool
    ) -> tuple[Any, ...]:
        if tasks:
            return each_task(lambda *task: Gradient.forward(*task, eps, False), g, x, mean, r, output)
        return _first(_behind(g, output, x), x, mean, r, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.eps, ctx.tasks = inputs[-2:]
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*inputs[:5], *output[1:])

    @staticmethod
    def backward(ctx: Any, v: Tensor, by_sum: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        g, x, output = (ctx.saved_tensors[i] for i in (0, 1, 4))
        if torch.is_grad_enabled():  # a third derivative may follow: all must be functions of g and x
            function = partial(_second_again, eps=ctx.eps)
            results = (vmapped(function) if ctx.tasks else function)(v, by_sum, g, x, output)
        else:
            function = partial(_second, eps=ctx.eps)
            results = (partial(each_task, function) if ctx.tasks else function)(v, by_sum, *ctx.saved_tensors)
        return *results, *[None] * 5

    @staticmethod
    def vmap(info: Any, dims: Dims, *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        return over_tasks(Gradient.apply, info.batch_size, dims, *inputs)


def project(g: Tensor, x: Tensor, eps: float) -> Tensor:
    """P(g), in operations that can be differentiated by g and x."""
    centred = x - channel_mean(x)
    r = torch.rsqrt(channel_mean(centred.square()) + eps)
    y = centred * r
    return r * (g - channel_mean(g) - channel_mean(g * y) * y)


def bend(v: Tensor, g: Tensor, x: Tensor, eps: float) -> Tensor:
    """The derivative of P(g) by x in the direction of v, in operations that can be differentiated by v, g and x."""
    centred = x - channel_mean(x)
    r = torch.rsqrt(channel_mean(centred.square()) + eps)
    y, g, v = centred * r, g - channel_mean(g), v - channel_mean(v)
    b, a = channel_mean(g * y), channel_mean(v * y)
    return -r.square() * (b * v + a * g + (channel_mean(v * g) - 3 * a * b) * y)


def vmapped(function: Any) -> Any:
    """`function` over the first axis of its tensors, some of which may be None."""
    return lambda *tensors: vmap(function, tuple(None if x is None else 0 for x in tensors))(*tensors)


def _second_again(
    v: Tensor, by_sum: Tensor, g: Tensor, x: Tensor, output: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """As `_second`, for a third derivative."""
    g = _masked(g, output)
    return _masked(project(v, x, eps) + wide(by_sum, x), output), bend(v, g, x, eps)


def _second(
    v: Tensor,
    by_sum: Tensor,
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    r: Tensor,
    output: Tensor | None,
    *sums: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The derivative of `Gradient` in the direction of v and of `by_sum`: by g and by x."""
    g, v = _behind(g, output, x), laid_out(v, x)
    by_g, *v_sums = _first(v, x, mean, r, eps)
    count = x.numel() // x.shape[1]
    g_mean, b, v_mean, a = (wide(total, x) / count for total in (*sums, *v_sums))
    mean, r = wide(mean, x), wide(r, x)
    scale, of_y = -r * r, channel_mean(v * g) - v_mean * g_mean - 3 * a * b
    by_x = torch.addcmul(-scale * (b * v_mean + a * g_mean + of_y * r * mean), v, scale * b)
    by_x.addcmul_(g, scale * a).addcmul_(x, scale * of_y * r)
    return _behind(by_g + wide(by_sum, x), output, x), by_x


def _first(g: Tensor, x: Tensor, mean: Tensor, r: Tensor, eps: float) -> _Sums:
    """P(g), and for every channel the sum of g and of g y."""
    one, every = torch.ones_like(r), [True, True, True]
    p, slope, total = torch.ops.aten.native_batch_norm_backward(g, x, one, None, None, mean, r, True, eps, every)
    return p, total, slope


def _behind(g: Tensor, output: Tensor | None, like: Tensor) -> Tensor:
    """The gradient behind a ReLU with this output, if there is one, in the layout of `like`."""
    return laid_out(_masked(g, output), like)


def _masked(g: Tensor, output: Tensor | None) -> Tensor:
    return g if output is None else torch.ops.aten.threshold_backward(g, output, 0)
