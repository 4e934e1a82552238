"""Canonical correlation analysis of two layers: mean CCA, SVCCA and PWCCA.

CCA finds pairs of directions, one in each layer, whose activations correlate most. It does not change under shifts
and invertible linear maps of either layer. Convolution outputs, (n, c, h, w), go through `fold` first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.similarity.moments import Moments, Scatter, gathered
from innerloop.similarity.noise import noise_cca, warn_of_noise, warn_of_silence

# Directions with less variance than this, beside the channel that varies most, are dead: rounding, not signal.
EPSILON = 1e-10


@dataclass(frozen=True)
class CCA:
    """How alike two layers are, from 0 to 1."""

    value: Tensor  # (...)
    points: int  # data points used
    floor: Tensor  # (...), about what independent noise of the same size scores
    coefficients: Tensor  # (..., min(p, q)), largest first; 0 past the directions that both sides have


class _Side(NamedTuple):
    """One layer's directions."""

    white: Tensor  # (..., p, p), columns that map channels to uncorrelated directions of length 1; 0 for a dropped one
    kept: Tensor  # (...), how many are not dropped


class _Analysis(NamedTuple):
    """What the measures average."""

    x: _Side
    y: _Side
    left: Tensor  # (..., p, k), canonical directions of x
    right: Tensor  # (..., q, k), and of y
    coefficients: Tensor  # (..., k)


def mean_cca(x: Tensor | Moments, y: Tensor | None = None) -> CCA:
    """Mean CCA of x, (..., n, p), and y, (..., n, q): the plain mean of the canonical correlations.

    The mean runs over as many coefficients as the side with fewer living directions has: dead channels, and
    channels that are sums of others, are left out, so a layer that is not constant is 1 with itself. As in
    google/svcca's tutorials (Raghu et al., 2017), with one difference: that code adds 1e-10 to the scaled
    variances, here directions below 1e-10 are dropped, which agrees wherever variances are far above it.

    Raises:
        ValueError: n is so small that every coefficient would be 1, or see `Moments.add`.
    """
    return _measure(gathered(x, y), 1.0, "mean CCA", _plain)


def svcca(x: Tensor | Moments, y: Tensor | None = None, *, keep: float = 0.99) -> CCA:
    """SVCCA: mean CCA between the leading principal directions of each side that explain `keep` of its variance.

    It needs more data points than those directions, not than channels. Raghu et al. (2017) count the explained share
    in singular values rather than in variances and so keep more directions.

    Raises:
        ValueError: `keep` is not in (0, 1], or see `mean_cca`.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is the share of variance to explain, above 0 and at most 1, got {keep}")
    return _measure(gathered(x, y), keep, "SVCCA", _plain)


def pwcca(x: Tensor | Moments, y: Tensor | None = None) -> CCA:
    """PWCCA (Morcos et al., 2018): coefficients weighted by how much of one side's activations each direction explains.

    That side is the one with fewer living directions, x if both have the same number: so pwcca(x, y) may differ from
    pwcca(y, x), and it changes under linear maps of the weighting side.

    Raises:
        ValueError: see `mean_cca`.
    """
    return _measure(gathered(x, y), 1.0, "PWCCA", _projected)


def _plain(scatter: Scatter, found: _Analysis) -> Tensor:  # noqa: ARG001
    return found.coefficients.sum(-1) / torch.minimum(found.x.kept, found.y.kept).clamp(min=1)


def _projected(scatter: Scatter, found: _Analysis) -> Tensor:
    by_x = (scatter.xx @ found.left).abs().sum(-2)  # over channels, of their products with a canonical direction
    by_y = (scatter.yy @ found.right).abs().sum(-2)
    weights = torch.where((found.x.kept <= found.y.kept)[..., None], by_x, by_y)
    return (weights * found.coefficients).sum(-1) / weights.sum(-1).clamp(min=torch.finfo(weights.dtype).tiny)


def _measure(moments: Moments, keep: float, name: str, average: Callable[[Scatter, _Analysis], Tensor]) -> CCA:
    scatter, n = moments.scatter(), moments.points
    x, y = _side(scatter.xx, keep), _side(scatter.yy, keep)
    if int(torch.maximum(x.kept, y.kept).max()) >= n - 1:
        p, q = scatter.xy.shape[-2:]
        raise ValueError(
            f"{name} of {p} and {q} channels got {n} data points: so few that any two layers would look the same. Use "
            f"at least {max(p, q) + 2}, better ten times the channels: more inputs, pixels as data points (fold), "
            "average-pooled channels, or svcca with a lower keep."
        )
    left, coefficients, right = torch.linalg.svd(x.white.mT @ scatter.xy @ y.white, full_matrices=False)
    found = _Analysis(x, y, x.white @ left, y.white @ right.mT, coefficients.clamp(0, 1))
    floor = noise_cca(x.kept, y.kept, n)
    warn_of_silence((x.kept == 0) | (y.kept == 0), name)
    warn_of_noise(floor, n, name)
    return CCA(average(scatter, found).clamp(0, 1), n, floor, found.coefficients)


def _side(scatter: Tensor, keep: float) -> _Side:
    largest = scatter.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None]  # no entry off the diagonal is larger
    scale = torch.where(largest > 0, largest, 1.0)
    variances, directions = torch.linalg.eigh(scatter / scale[..., None])
    variances, directions = variances.flip(-1).clamp(min=0), directions.flip(-1)
    before = variances.cumsum(-1) - variances
    kept = (variances > EPSILON) & (before < keep * variances.sum(-1, keepdim=True))
    lengths = torch.where(kept, variances * scale, torch.inf).sqrt()
    return _Side(directions / lengths[..., None, :], kept.sum(-1))
