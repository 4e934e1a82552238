"""What the measures need of two layers' activations, whichever form it was gathered in, and the choice of the form.

`Moments` keeps sums over data points, p x p for p channels; `Gram` keeps sums over channels, n x n for n data points.
The numbers are the same. Shapes: n data points, p channels of x, q channels of y, ... any leading axes, such as tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Directions with less variance than this, beside the channel that varies most, are dead: rounding, not signal.
EPSILON = 1e-10


class Pairs(NamedTuple):
    """A number, (...), for x with itself, y with itself, and x with y."""

    xx: Tensor
    yy: Tensor
    xy: Tensor


class Side(NamedTuple):
    """One layer's principal directions."""

    kept: Tensor  # (...), how many are not dropped
    channels: Callable[[Tensor], Tensor]  # sums of directions, (..., k, m), as sums of channels, (..., p, m)


class Sides(NamedTuple):
    """Both layers' principal directions, each of length 1 over the data points; a dropped one is 0."""

    x: Side
    y: Side
    products: Tensor  # (..., k, l), of each direction of x with each of y


class Form(Protocol):
    """Two layers' activations on the same data points, each channel centred."""

    @property
    def points(self) -> int:
        """How many data points."""
        ...

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of x and of y."""
        ...

    def traces(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of x and of y, (...)."""
        ...

    def norms(self) -> Pairs:
        """Squared Frobenius norms of X'X, Y'Y and X'Y."""
        ...

    def lengths(self) -> Pairs:
        """Sums over data points of products of the squared lengths of rows."""
        ...

    def nuclear(self) -> Tensor:
        """The sum of the singular values of X'Y, (...)."""
        ...

    def sides(self, keep: float) -> Sides:
        """Principal directions, those that explain `keep` of a layer's variance."""
        ...


def principal(matrix: Tensor, largest: Tensor, keep: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths, infinite for a dropped direction; directions; and which are kept, (..., k), (..., k, k) and (..., k).

    Args:
        matrix: sums of products of channels or of data points, (..., k, k).
        largest: the largest sum of squares of a channel, (...).
        keep: the share of the variance that the kept directions explain.
    """
    scale = torch.where(largest > 0, largest, 1.0)[..., None]
    variances, directions = torch.linalg.eigh(matrix / scale[..., None])
    variances, directions = variances.flip(-1).clamp(min=0), directions.flip(-1)
    before = variances.cumsum(-1) - variances
    kept = (variances > EPSILON) & (before < keep * variances.sum(-1, keepdim=True))
    return torch.where(kept, variances * scale, torch.inf).sqrt(), directions, kept


def check_pair(x: Tensor, y: Tensor) -> None:
    """Refuse what are no activations of two layers for the same inputs.

    Raises:
        ValueError: x and y have no data points or channels, or differ in more than their last axis.
    """
    shapes = f"x is {tuple(x.shape)} and y is {tuple(y.shape)}"
    if x.ndim < 2 or y.ndim < 2 or not x.numel() or not y.numel():
        raise ValueError(f"activations are (..., n, p) and (..., n, q), data points by channels, but {shapes}")
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"{shapes}: all but their last axis must agree. Compare both layers on the same inputs.")


def check_finite(*sums: Tensor) -> None:
    """Raises ValueError where activations hold NaN or infinite values."""
    if not all(part.isfinite().all() for part in sums):
        raise ValueError("activations hold NaN or infinite values: look for a diverged network or a bad input")
