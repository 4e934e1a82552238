"""Convolution on a CPU: its second derivative is made of the same three fast kernels, and it loops over tasks.

On other devices it is PyTorch's own, unless `per_task_conv.choosing` says how tasks are convolved.

PyTorch's own second derivative asks for convolutions with kernels as large as the image, one group of channels after
the other. But a convolution is linear in the image x and in the weight w, so its first derivative maps g to

    (X(g, w), W(g, x)),

X the gradient of the image and W that of the weight. In the direction (u, v) the derivative of that with respect to g
is u * w + x * v, and with respect to (x, w) it is (X(g, v), W(g, u)): the same kernels once more, to any order.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.kernels.function import bare, lowered, signed, written_out
from innerloop.kernels.per_task_conv import chosen, conv2d, conv2d_gradients, is_choosing
from innerloop.kernels.task_axis import Dims, each_task, tasks_first

_Pads = tuple[int, int, int, int]  # left, right, top, bottom
_Maybe = Tensor | None


def convolve(x: Tensor, weight: Tensor, stride: int, pads: _Pads) -> Tensor:
    """As `F.conv2d` of x, (n, c, h, w), with this many zeros on its left, right, top and bottom, without a bias."""
    if (x.device.type == "cpu" or is_choosing()) and written_out(x):
        if bare(x):
            padding, x = (pads[0], x) if _even(pads) else (0, _padded(x, pads))
            return F.conv2d(x, weight, None, stride, padding)
        return _Convolve.apply(*lowered(x, weight), stride, pads)[0]
    padding, x = (pads[0], x) if _even(pads) else (0, F.pad(x, pads))
    return F.conv2d(x, weight, None, stride, padding)


class _Convolve(torch.autograd.Function):
    """x and w, either both with an axis of tasks in front or neither, to x * w and the padded x."""

    @staticmethod
    @signed
    def forward(x: Tensor, w: Tensor, stride: int, pads: _Pads) -> tuple[Tensor, _Maybe]:
        if x.ndim > 4 and not is_choosing():  # padded task by task, too: it is still in the cache then
            return each_task(lambda x, w: _Convolve.forward(x, w, stride, pads), x, w)
        if x.ndim > 5:  # a vmap in a vmap: both axes are of tasks
            return _unflat(x.shape[:-4], _Convolve.forward(x.flatten(0, -5), w.flatten(0, -5), stride, pads))
        padded = None if _even(pads) else _padded(x, pads)
        inputs, how = (x, (stride, pads[0])) if padded is None else (padded, (stride, 0))
        forward = conv2d if x.ndim == 4 else chosen(inputs, w, *how).forward
        return forward(inputs, w, *how), padded

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, _Maybe]) -> None:
        if output[1] is not None:
            ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], output[1])
        ctx.how = inputs[2:]

    @staticmethod
    def backward(ctx: Any, g: _Maybe, _: Any) -> tuple[_Maybe, ...]:
        if g is None:
            return (None,) * 4
        x, w, padded = ctx.saved_tensors
        gradients = _Gradients.apply if torch.is_grad_enabled() else _Gradients.forward
        return *gradients(g, x, w, padded, *ctx.how, ctx.needs_input_grad[:2]), None, None

    @staticmethod
    def vmap(info: Any, dims: Dims, x: Tensor, w: Tensor, *how: Any) -> tuple[Any, Any]:
        if dims[1] is None and w.ndim == 4:  # one weight for all tasks: one batch of images
            x = x.movedim(dims[0], 0)
            results = _Convolve.apply(x.flatten(0, 1), w, *how)
            results = [part if part is None else part.unflatten(0, x.shape[:2]) for part in results]
        else:
            results = _Convolve.apply(*tasks_first(info.batch_size, dims, x, w), *how)
        return tuple(results), tuple(part if part is None else 0 for part in results)


class _Gradients(torch.autograd.Function):
    """g, x and w to (X(g, w), W(g, x)), or None for what is not wanted."""

    @staticmethod
    @signed
    def forward(
        g: Tensor, x: Tensor, w: Tensor, padded: _Maybe, stride: int, pads: _Pads, wanted: tuple[bool, bool]
    ) -> tuple[_Maybe, _Maybe]:
        if g.ndim > 4 and not is_choosing():
            return each_task(lambda *task: _Gradients.forward(*task, stride, pads, wanted), g, x, w, padded)
        if g.ndim > 5:
            flat = (None if part is None else part.flatten(0, -5) for part in (g, x, w, padded))
            return _unflat(g.shape[:-4], _Gradients.forward(*flat, stride, pads, wanted))
        inputs, how = (x, (stride, pads[0])) if padded is None else (padded, (stride, 0))
        gradients = conv2d_gradients if g.ndim == 4 else chosen(inputs, w, *how).gradients
        by_x, by_w = gradients(g, inputs, w, *how, wanted)
        if by_x is not None and padded is not None:
            by_x = by_x[..., pads[2] : by_x.shape[-2] - pads[3], pads[0] : by_x.shape[-1] - pads[1]]
        if by_x is not None and x.is_contiguous():
            by_x = by_x.contiguous()  # what stands before is not used to channels last: some norms die of it under vmap
        return by_x, by_w

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[_Maybe, ...]) -> None:  # noqa: ARG004
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:3])
        ctx.how = inputs[4:6]

    @staticmethod
    def backward(ctx: Any, u: _Maybe, v: _Maybe) -> tuple[_Maybe, ...]:
        g, x, w = ctx.saved_tensors
        by_g = by_x = by_w = padded = None
        again = torch.is_grad_enabled()  # a third derivative may follow
        convolution, gradients = ((kind.apply if again else kind.forward) for kind in (_Convolve, _Gradients))
        if u is not None:
            by_g, padded = convolution(u, w, *ctx.how)
        if v is not None:
            by_v, of_x = convolution(x, v, *ctx.how)
            by_g, padded = by_v if by_g is None else by_g + by_v, of_x if padded is None else padded
        wanted = (v is not None and ctx.needs_input_grad[1], u is not None and ctx.needs_input_grad[2])
        if any(wanted):
            u, v = x if u is None else u, w if v is None else v
            by_x, by_w = gradients(g, u, v, padded, *ctx.how, wanted)
        return by_g, by_x, by_w, None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: Dims, *inputs: Any) -> tuple[Any, Any]:
        results = _Gradients.apply(*tasks_first(info.batch_size, dims, *inputs[:4]), *inputs[4:])
        return results, tuple(part if part is None else 0 for part in results)


def _unflat(leading: torch.Size, parts: tuple[_Maybe, ...]) -> tuple[Any, ...]:
    return tuple(None if part is None else part.unflatten(0, leading) for part in parts)


def _padded(x: Tensor, pads: _Pads) -> Tensor:
    """With its zeros, and channels last from here on."""
    return F.pad(x.movedim(-3, -1), (0, 0, *pads)).movedim(-1, -3)


def _even(pads: _Pads) -> bool:
    return len(set(pads)) == 1
