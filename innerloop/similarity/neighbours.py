"""Mutual nearest neighbours: do two layers put the same inputs side by side?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.similarity.form import check_finite, check_pair

_AT_ONCE = 2**24  # similarities that are held at a time


@dataclass(frozen=True)
class Neighbours:
    """The share of nearest neighbours that two layers have in common, from 0 to 1."""

    value: Tensor  # (...)
    chance: float  # what unrelated layers share: k / (n - 1)
    points: int  # data points used


def mutual_neighbours(x: Tensor, y: Tensor, *, k: int = 10) -> Neighbours:
    """Mutual k-nearest neighbours of x, (..., n, p), and y, (..., n, q), by cosine (Huh et al., 2024).

    Each data point's k nearest others in x, and in y; the share that is in both, averaged over data points. It does
    not change under rotations of the channels and where a data point is scaled; it does under shifts.

    Raises:
        ValueError: k is not between 1 and n - 2, or see `check_pair` and `check_finite`.
    """
    check_pair(x, y)
    n = x.shape[-2]
    if not 1 <= k < n - 1:
        raise ValueError(f"k must be between 1 and n - 2 = {n - 2} for {n} data points, got {k}")
    layers = [F.normalize(part.detach().to(x.device, torch.float64), dim=-1) for part in (x, y)]
    check_finite(*layers)
    few = max(_AT_ONCE // layers[0][..., 0].numel(), 1)
    shared: list[Tensor] = []
    for rows in torch.arange(n, device=x.device).split(few):
        one, other = (_nearest(layer, rows, k) for layer in layers)
        shared.append((one[..., :, None] == other[..., None, :]).sum((-2, -1)))
    return Neighbours(torch.cat(shared, -1).double().mean(-1) / k, k / (n - 1), n)


def _nearest(layer: Tensor, rows: Tensor, k: int) -> Tensor:
    """Indices of the nearest others of these data points, (..., rows, k)."""
    alike = layer[..., rows, :] @ layer.mT
    alike.scatter_(-1, rows[:, None].expand(*alike.shape[:-1], 1), -torch.inf)
    return alike.topk(k, -1).indices
