"""Batch norm's standardisation with derivatives that are fast on a CPU and right under vmap, to any order.

PyTorch's own second derivative sums one axis after the other, which took 29 to 43 % of a MAML step on mini-ImageNet.
In `standardised` and `pooled` it is written out. With y the standardised x, r = 1 / sqrt(variance + eps), and brackets
for the mean over all but the channels, the first derivative maps g to

    P(g) = r (g - <g> - <g y> y)

which is symmetric, so in the direction of v its derivative with respect to g is P(v), and with respect to x

    -r^2 (<g y> (v - <v>) + <v y> (g - <g>) + (<v g> - <v><g> - 3 <v y><g y>) y).

PyTorch's own operations stand in where these may not, see `function.written_out`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.kernels.channels import channel_mean, wide
from innerloop.kernels.function import HALF, bare, written_out
from innerloop.kernels.pooled import Halved
from innerloop.kernels.standardised import Standardise


def standardise(x: Tensor, eps: float, shift: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """Zero mean and unit variance for every channel of x, (n, c, ...); then plus `shift`, (c,); then a ReLU.

    Half precision is computed in float32 and comes back as it was.
    """
    if x.dtype in HALF:
        return standardise(x.float(), eps, shift, relu=relu).to(x.dtype)
    if shift is not None and shift.dtype != x.dtype:
        shift = shift.to(x.dtype)
    if written_out(x):
        if bare(x):
            scale = x.new_ones(x.shape[1]) if torch.is_grad_enabled() else None  # without it: no second derivative
            y = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, eps)[0]
            return y.relu_() if relu else y
        return Standardise.apply(x, shift, eps, relu, False)[0]
    y = _plain(x, eps)
    y = y if shift is None else y + wide(shift, x)
    return y.relu() if relu else y


def halved(x: Tensor, eps: float) -> Tensor:
    """`standardise` of x, (n, c, h, w), then 2x2 max pooling: neither way makes a standardised tensor as large as x."""
    if x.dtype in HALF:
        return halved(x.float(), eps).to(x.dtype)
    if not written_out(x):
        return F.max_pool2d(_plain(x, eps), 2)
    run = Halved.apply if torch.is_grad_enabled() or not bare(x) else Halved.forward
    return run(x, eps, False)[0]


def _plain(x: Tensor, eps: float) -> Tensor:
    """In PyTorch's own operations."""
    centred = x - channel_mean(x)
    return centred * torch.rsqrt(channel_mean(centred.square()) + eps)
