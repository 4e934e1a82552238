"""Canonical correlation analysis of two layers: mean CCA, SVCCA and PWCCA.

CCA finds pairs of directions, one in each layer, whose activations correlate most. It does not change under shifts
and invertible linear maps of either layer. Convolution outputs, (n, c, h, w), go through `fold` first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.similarity.form import Form, Sides
from innerloop.similarity.moments import gathered
from innerloop.similarity.noise import noise_cca, warn_of_noise, warn_of_silence


@dataclass(frozen=True)
class CCA:
    """How alike two layers are, from 0 to 1."""

    value: Tensor  # (...)
    points: int  # data points used
    floor: Tensor  # (...), about what independent noise of the same size scores
    coefficients: Tensor  # (..., min(p, q, n)), largest first; 0 past the directions that both sides have


def mean_cca(x: Tensor | Form, y: Tensor | None = None) -> CCA:
    """Mean CCA of x, (..., n, p), and y, (..., n, q): the plain mean of the canonical correlations.

    The mean runs over as many coefficients as the side with fewer living directions has: dead channels, and
    channels that are sums of others, are left out, so a layer that is not constant is 1 with itself. As in
    google/svcca's tutorials (Raghu et al., 2017), with one difference: that code adds 1e-10 to the scaled
    variances, here directions below 1e-10 are dropped, which agrees wherever variances are far above it.

    Raises:
        ValueError: n is so small that every coefficient would be 1, or see `Moments.add`.
    """
    return _measure(gathered(x, y), 1.0, "mean CCA", _plain)


def svcca(x: Tensor | Form, y: Tensor | None = None, *, keep: float = 0.99) -> CCA:
    """SVCCA: mean CCA between the leading principal directions of each side that explain `keep` of its variance.

    It needs more data points than those directions, not than channels. Raghu et al. (2017) count the explained share
    in singular values rather than in variances and so keep more directions.

    Raises:
        ValueError: `keep` is not in (0, 1], or see `mean_cca`.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is the share of variance to explain, above 0 and at most 1, got {keep}")
    return _measure(gathered(x, y), keep, "SVCCA", _plain)


def pwcca(x: Tensor | Form, y: Tensor | None = None) -> CCA:
    """PWCCA (Morcos et al., 2018): coefficients weighted by how much of one side's activations each direction explains.

    That side is the one with fewer living directions, x if both have the same number: so pwcca(x, y) may differ from
    pwcca(y, x), and it changes under linear maps of the weighting side.

    Raises:
        ValueError: see `mean_cca`.
    """
    return _measure(gathered(x, y), 1.0, "PWCCA", _projected)


def _plain(sides: Sides, coefficients: Tensor, *_: Tensor) -> Tensor:
    return coefficients.sum(-1) / torch.minimum(sides.x.kept, sides.y.kept).clamp(min=1)


def _projected(sides: Sides, coefficients: Tensor, left: Tensor, right: Tensor) -> Tensor:
    by_x = sides.x.channels(left).abs().sum(-2)  # over channels, of their products with a canonical direction
    by_y = sides.y.channels(right).abs().sum(-2)
    weights = torch.where((sides.x.kept <= sides.y.kept)[..., None], by_x, by_y)
    return (weights * coefficients).sum(-1) / weights.sum(-1).clamp(min=torch.finfo(weights.dtype).tiny)


def _measure(form: Form, keep: float, name: str, average: Callable[..., Tensor]) -> CCA:
    sides, n = form.sides(keep), form.points
    x, y = sides.x.kept, sides.y.kept
    if int(torch.maximum(x, y).max()) >= n - 1:
        p, q = form.widths
        raise ValueError(
            f"{name} of {p} and {q} channels got {n} data points: so few that any two layers would look the same. Use "
            f"at least {max(p, q) + 2}, better ten times the channels: more inputs, pixels as data points (fold), "
            "average-pooled channels, or svcca with a lower keep."
        )
    left, coefficients, right = torch.linalg.svd(sides.products, full_matrices=False)
    coefficients = coefficients.clamp(0, 1)
    floor = noise_cca(x, y, n)
    warn_of_silence((x == 0) | (y == 0), name)
    warn_of_noise(floor, n, name)
    return CCA(average(sides, coefficients, left, right.mT).clamp(0, 1), n, floor, coefficients)
