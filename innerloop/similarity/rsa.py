"""Representational similarity analysis (Kriegeskorte et al., 2008): do two layers tell the same inputs apart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.similarity.form import check_finite, check_pair
from innerloop.similarity.memory import check_fits
from innerloop.similarity.noise import warn_of_silence

Dissimilarity = Literal["correlation", "euclidean"]


@dataclass(frozen=True)
class RSA:
    """The correlation of two layers' dissimilarities between data points: from -1 to 1, about 0 for unrelated ones."""

    value: Tensor  # (...)
    points: int  # data points used


def rsa(x: Tensor, y: Tensor, *, dissimilarity: Dissimilarity = "correlation", ranks: bool = True) -> RSA:
    """RSA of x, (..., n, p), and y, (..., n, q): their dissimilarities of all pairs of data points, correlated.

    "correlation" is 1 - Pearson's r between two data points' channels: it does not change where a data point is scaled
    or shifted in all channels alike. "euclidean" does not change under shifts and rotations of the channels. Neither
    changes where the order of channels does. `ranks` gives Spearman's correlation, else it is Pearson's.

    Raises:
        ValueError: fewer than 3 data points, a single channel has no correlation, or see `check_pair`, `check_fits`
            and `check_finite`.
    """
    check_pair(x, y)
    n = x.shape[-2]
    if n < 3:
        raise ValueError(f"RSA got {n} data points and needs at least 3: use more inputs")
    if dissimilarity not in ("correlation", "euclidean"):
        raise ValueError(f'dissimilarity must be "correlation" or "euclidean", got {dissimilarity!r}')
    if dissimilarity == "correlation" and 1 in (x.shape[-1], y.shape[-1]):
        raise ValueError('a single channel has no correlation between data points: take dissimilarity="euclidean"')
    check_fits(f"RSA of {n} data points", 8 * 6 * n * n, x.device, "take fewer data points")
    pairs = torch.triu_indices(n, n, 1, device=x.device)
    values: list[Tensor] = []
    for one, other in zip(_tasks(x), _tasks(y.to(x.device)), strict=True):
        vectors = [_dissimilarities(part.double(), dissimilarity)[pairs[0], pairs[1]] for part in (one, other)]
        check_finite(*vectors)
        values.append(_pearson(*(map(_ranked, vectors) if ranks else vectors)))
    value = torch.stack(values).view(x.shape[:-2])
    warn_of_silence(value.isnan(), "RSA", caller=3)
    return RSA(value.nan_to_num(0.0), n)


def _tasks(x: Tensor) -> list[Tensor]:
    return list(x.detach().flatten(0, -3)) if x.ndim > 2 else [x.detach()]


def _dissimilarities(x: Tensor, kind: Dissimilarity) -> Tensor:
    if kind == "euclidean":
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    rows = F.normalize(x - x.mean(1, keepdim=True), dim=1)
    return 1 - rows @ rows.T


def _ranked(values: Tensor) -> Tensor:
    """Ranks from 0; equal values share their mean rank."""
    _, which, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts + 1) / 2)[which]


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """() or NaN where one of the two is constant."""
    x, y = x - x.mean(), y - y.mean()
    return ((x @ y) / (x.norm() * y.norm())).clamp(-1, 1)
