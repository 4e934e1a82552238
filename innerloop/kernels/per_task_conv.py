"""Convolutions with other weights for each task: ways to compute them all, and a choice among them by measurement.

Which way is fastest depends on the device and on the shape; all give the same numbers up to rounding. On its own a
convolution loops over tasks, which a CPU is fastest at. Inside `choosing`, each shape is measured once, where it first
comes up, and what was chosen can be kept: a run that goes on with the choices of its first start rounds as it did.

Shapes: t tasks, n images, c channels in, o channels out, h x w pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from threading import local
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.kernels.task_axis import each_task

Gradients = tuple[Tensor | None, Tensor | None]
_ROUNDS = 3  # after one that warms up


class Way(NamedTuple):
    """One way to compute x * w for every task, x (t, n, c, h, w) and w (t, o, c, 3, 3), and both first derivatives."""

    forward: Callable[[Tensor, Tensor, int, int], Tensor]  # of x, w, stride, padding
    gradients: Callable[[Tensor, Tensor, Tensor, int, int, tuple[bool, bool]], Gradients]  # of g, x, w, ..., wanted


def conv2d(x: Tensor, w: Tensor, stride: int, padding: int, groups: int = 1) -> Tensor:
    """In the type of x and w, whatever autocast says where a derivative is computed."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return F.conv2d(x, w, None, stride, padding, 1, groups)
    return F.conv2d(x, w, None, stride, padding, 1, groups)


def conv2d_gradients(
    g: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, wanted: tuple[bool, bool], groups: int = 1
) -> Gradients:
    """The gradients of x and of w, or None for what is not wanted."""
    how = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
    by_x, by_w, _ = torch.ops.aten.convolution_backward(g, x, w, None, *how, [*wanted, False])
    return by_x if wanted[0] else None, by_w if wanted[1] else None


def _looped(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    return each_task(lambda x, w: (conv2d(x, w, stride, padding),), x, w)[0]


def _looped_gradients(
    g: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> Gradients:
    return each_task(lambda g, x, w: conv2d_gradients(g, x, w, stride, padding, wanted), g, x, w)


def _grouped(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    return _apart(conv2d(_together(x), w.flatten(0, 1), stride, padding, len(x)), len(x))


def _grouped_gradients(
    g: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> Gradients:
    by_x, by_w = conv2d_gradients(_together(g), _together(x), w.flatten(0, 1), stride, padding, wanted, len(x))
    return None if by_x is None else _apart(by_x, len(x)), None if by_w is None else by_w.unflatten(0, w.shape[:2])


def _multiplied(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    size = [
        (side + 2 * padding - kernel) // stride + 1 for side, kernel in zip(x.shape[-2:], w.shape[-2:], strict=True)
    ]
    return torch.einsum("tok,tnkl->tnol", w.flatten(2), _windows(x, w, stride, padding)).unflatten(-1, size)


def _multiplied_gradients(
    g: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> Gradients:
    by_x = by_w = None
    if wanted[0]:
        windows = torch.einsum("tok,tnol->tnkl", w.flatten(2), g.flatten(3)).flatten(0, 1)
        by_x = F.fold(windows, x.shape[-2:], w.shape[-2:], 1, padding, stride).view(x.shape)
    if wanted[1]:
        by_w = torch.einsum("tnol,tnkl->tok", g.flatten(3), _windows(x, w, stride, padding)).view(w.shape)
    return by_x, by_w


def _windows(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """What each pixel of the result sees, (t, n, c * 3 * 3, pixels)."""
    return F.unfold(x.flatten(0, 1), w.shape[-2:], 1, padding, stride).unflatten(0, x.shape[:2])


def _together(x: Tensor) -> Tensor:
    """(t, n, c, h, w) to (n, t * c, h, w)."""
    return x.movedim(0, 1).flatten(1, 2)


def _apart(x: Tensor, tasks: int) -> Tensor:
    return x.unflatten(1, (tasks, -1)).movedim(1, 0)


WAYS = {
    "loop": Way(_looped, _looped_gradients),
    "groups": Way(_grouped, _grouped_gradients),  # what vmap makes of F.conv2d
    "matrices": Way(_multiplied, _multiplied_gradients),  # all windows as columns of one batch of matrix products
}


class Choices:
    """The way for each shape: known from `record`, or else the fastest of `WAYS` when it first comes up."""

    def __init__(self, record: Mapping[str, str] | None = None) -> None:
        if odd := sorted(set((record or {}).values()) - WAYS.keys()):
            raise ValueError(f"there is no way to convolve called {', '.join(odd)}. There are {', '.join(WAYS)}.")
        self.record: dict[str, str] = dict(record or {})  # JSON, to be kept with a run

    def way(self, x: Tensor, w: Tensor, stride: int, padding: int) -> Way:
        """The way for these tensors.

        Raises:
            RuntimeError: a CUDA graph is being captured and the shape has not come up before.
        """
        shapes = " * ".join("x".join(map(str, part.shape)) for part in (x, w))
        key = f"{shapes}, stride {stride}, padding {padding}, {str(x.dtype).removeprefix('torch.')}, {x.device.type}"
        if key not in self.record:
            if x.is_cuda and torch.cuda.is_current_stream_capturing():
                raise RuntimeError(f"no way to convolve {key} is known yet: run one step before capturing")
            self.record[key] = min(WAYS, key=lambda name: _seconds(WAYS[name], x, w, stride, padding))
        return WAYS[self.record[key]]


class _Scope(local):
    choices: Choices | None = None


_scope = _Scope()


@contextmanager
def choosing(choices: Choices) -> Iterator[Choices]:
    """Inside, convolutions batched over tasks run as `choices` says, on any device."""
    before, _scope.choices = _scope.choices, choices
    try:
        yield choices
    finally:
        _scope.choices = before


def chosen(x: Tensor, w: Tensor, stride: int, padding: int) -> Way:
    """The way for these tensors here and now: a loop outside of `choosing`."""
    return WAYS["loop"] if _scope.choices is None else _scope.choices.way(x, w, stride, padding)


def is_choosing() -> bool:
    """Whether this is inside of `choosing`."""
    return _scope.choices is not None


def _seconds(way: Way, x: Tensor, w: Tensor, stride: int, padding: int) -> float:
    """Of a forward and a backward pass."""
    times: list[float] = []
    for _ in range(_ROUNDS + 1):
        start = _now(x)
        way.gradients(way.forward(x, w, stride, padding), x, w, stride, padding, (True, True))
        times.append(_now(x) - start)
    return median(times[1:])


def _now(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
