"""When the hand-written derivatives may stand for PyTorch's own operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Inside an autocast region, the tensors in its type, as it would hand them to a convolution."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)
