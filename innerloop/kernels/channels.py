"""Sums and layouts by channel, for tensors (n, c, ...)."""

from __future__ import annotations

import torch
from torch import Tensor


def channel_mean(x: Tensor) -> Tensor:
    """(1, c, 1, ...)."""
    return x.mean([0, *range(2, x.ndim)], keepdim=True)


def wide(channels: Tensor, like: Tensor) -> Tensor:
    """One number a channel, (c,), in a shape that goes with `like`, (n, c, ...); with an axis of tasks, (t, c)."""
    shape = -1, *[1] * (like.ndim - channels.ndim - 1)
    return channels.view(shape) if channels.ndim == 1 else channels.view(len(channels), 1, *shape)


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory layout of `like`, which every pass over both is faster for."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def channels_last(x: Tensor) -> Tensor:
    """x, (n, c, h, w), with the channels of a pixel side by side in memory, which convolutions on a CPU are faster for.

    Networks that gain by it ask for it themselves. Nothing hands such tensors to a module that did not: some layers of
    PyTorch 2.13 crash on them (a 1x1 convolution with stride 2 of 2 to 7 channels).
    """
    if x.device.type != "cpu" or x.stride(1) == 1:
        return x
    if x.shape[1] == 1:
        return x.squeeze(1).unsqueeze(-1).movedim(-1, 1)  # the same memory: only the strides say so
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def channels_first(x: Tensor) -> Tensor:
    """x, (n, c, h, w), with one channel after another in memory, as most layers of PyTorch expect it."""
    return x.clone(memory_format=torch.contiguous_format) if x.stride(1) == 1 else x
