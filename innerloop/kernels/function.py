"""When the hand-written derivatives may stand for PyTorch's own operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

HALF = (torch.float16, torch.bfloat16)


def signed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` with its signature at hand, which `Function.apply` else works out anew in every call (15 us)."""
    forward.__signature__ = inspect.signature(forward)
    return forward


def written_out(x: Tensor) -> bool:
    """Whether the hand-written derivatives may stand for PyTorch's own operations on x.

    They go backwards, to any order. PyTorch's own take over in forward mode (`torch.func.jvp`, dual numbers), whichever
    other transforms stand around it; while `torch.compile` or `torch.export` traces, which would trace one order of
    derivative and drop the others, and makes fast code of plain operations itself; and for no images at all.
    """
    forward_mode = forward_ad._current_level >= 0  # pyright: ignore[reportPrivateUsage]  torch.func.jvp sets it, too
    return not (torch.compiler.is_compiling() or forward_mode) and x.numel() > 0


class _Scope(local):
    """For each thread by itself."""

    once: bool = False


_scope = _Scope()


@contextmanager
def derived_once() -> Iterator[None]:
    """Inside, who asks for gradients asks for no gradients of these, so that PyTorch's own are as fast and cost less.

    Higher derivatives stay right; they are slower.
    """
    before, _scope.once = _scope.once, True
    try:
        yield
    finally:
        _scope.once = before


def bare(x: Tensor) -> bool:
    """Whether PyTorch's own kernels do as well: on a CPU, outside of transforms, for one derivative or none."""
    return x.device.type == "cpu" and (_scope.once or not torch.is_grad_enabled()) and not in_transform()


def in_transform() -> bool:
    """Whether a transform of torch.func is running, in which the values of tensors cannot be asked for."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Inside an autocast region, the tensors in its type, as it would hand them to a convolution."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)
