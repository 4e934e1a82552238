"""How the custom derivatives run under vmap: all tasks in one kernel, or one task after the other, without copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGE = 2**12
"""Numbers of a task above which a CPU is faster task by task."""

Dims = tuple[Any, ...]
"""Where each tensor has its axis of tasks; None where it has none."""


def tasks_first(count: int, dims: Dims, *tensors: Tensor | None) -> list[Tensor | None]:
    """Each tensor with its axis of tasks first, also where all tasks share it."""
    return [
        None if x is None else x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, dims, strict=False)
    ]


def each_task(function: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """`function` of one task after the other, each result in its own memory layout: `torch.stack` would lose it."""
    count = next(len(x) for x in tensors if x is not None)
    wholes: list[Any] = []
    for i in range(count):
        parts = function(*(x if x is None else x[i] for x in tensors))
        wholes = wholes or [x if x is None else _room(count, x) for x in parts]
        for whole, part in zip(wholes, parts, strict=True):
            if whole is not None:
                whole[i].copy_(part)
    return tuple(wholes)


def _room(count: int, x: Tensor) -> Tensor:
    """Empty, for `count` such tensors in the layout of x."""
    one = torch.empty_like(x)
    return one.new_empty_strided((count, *one.shape), (one.numel(), *one.stride()))


def over_tasks(
    function: Callable[..., Any], count: int, dims: Dims, *inputs: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """`function` for every task. The tasks' axis of each tensor is in `dims`; that of each result is its first."""
    *settings, nested = (x for x in inputs if isinstance(x, bool | float))
    tensors = tasks_first(count, dims, *inputs[: -1 - len(settings)])
    first = tensors[0]
    assert first is not None
    if nested:  # a vmap inside of this one: both axes are of tasks
        results = function(*(None if x is None else x.flatten(0, 1) for x in tensors), *settings, True)
        results = tuple(x.unflatten(0, (count, -1)) for x in results)
    elif first.is_cuda or first.numel() < LARGE * count:  # one kernel: other tasks are further channels
        parts = function(*(None if x is None else _as_channels(x) for x in tensors), *settings, False)
        parts = [x.unflatten(0 if x.ndim == 1 else 1, (count, -1)) for x in parts]
        results = tuple(x if x.ndim == 2 else x.movedim(1, 0) for x in parts)
    else:  # a task's images lie together in memory, so nothing has to be rearranged
        results = function(*tensors, *settings, True)
    return results, (0,) * len(results)


def _as_channels(x: Tensor) -> Tensor:
    """(t, c) to (t c), and (t, n, c, ...) to (n, t c, ...)."""
    return x.flatten(0, 1) if x.ndim == 2 else x.movedim(0, 1).flatten(1, 2)
