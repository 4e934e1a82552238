"""What every similarity measure needs to know of two layers' activations, gathered batch by batch.

Shapes: n data points, p channels of x, q channels of y, ... any leading axes, such as tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Scatter(NamedTuple):
    """Sums over data points of products of centred channels."""

    xx: Tensor  # (..., p, p)
    yy: Tensor  # (..., q, q)
    xy: Tensor  # (..., p, q)


class Lengths(NamedTuple):
    """Sums over data points of products of the squared lengths of centred rows."""

    xx: Tensor  # (...)
    yy: Tensor  # (...)
    xy: Tensor  # (...)


class Moments:
    """Paired activations, summed up in float64 on the device of x: data points need not fit in memory at once.

    A data point with activations x and y counts as the row (1, |x|^2, |y|^2, x, y), and one matrix keeps the sum of
    the rows' outer products. Sums of products of anything linear in that row follow from it, centred squared lengths
    included: |x - m|^2 = |x|^2 - 2 m.x + |m|^2. All is counted from the first data point, so that activations far from
    0 lose no digits and constant channels are 0 exactly.
    """

    def __init__(self) -> None:
        self.points = 0
        self._origin: tuple[Tensor, Tensor] | None = None  # (..., 1, p) and (..., 1, q)
        self._sums: Tensor | None = None  # (..., 3 + p + q, 3 + p + q)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count the data points of x, (..., n, p), and y, (..., n, q): row i of both is the same input.

        Raises:
            ValueError: x and y differ in n or in their leading axes, or from the batches before; or a value is NaN or
                infinite.
        """
        self._check(x, y)
        x, y = (part.detach().to(x.device, torch.float64) for part in (x, y))
        origin = self._origin or (x[..., :1, :], y[..., :1, :])
        x, y = x - origin[0], y - origin[1]
        lengths = [part.square().sum(-1, keepdim=True) for part in (x, y)]
        rows = torch.cat([torch.ones_like(lengths[0]), *lengths, x, y], -1)
        sums = rows.mT @ rows
        if not sums.isfinite().all():
            raise ValueError("activations hold NaN or infinite values: look for a diverged network or a bad input")
        self._origin = origin
        self._sums = sums if self._sums is None else self._sums + sums
        self.points += x.shape[-2]

    def scatter(self) -> Scatter:
        """The unscaled covariances."""
        sums, means, p = self._known()
        whole = sums[..., 3:, 3:] - self.points * means[..., :, None] * means[..., None, :]
        return Scatter(whole[..., :p, :p], whole[..., p:, p:], whole[..., :p, p:])

    def lengths(self) -> Lengths:
        """What debiased CKA needs besides the covariances."""
        sums, means, p = self._known()
        # |x - mean|^2 and |y - mean|^2 as weights of the row (1, |x|^2, |y|^2, x, y).
        x, y = torch.zeros_like(sums[..., 0]), torch.zeros_like(sums[..., 0])
        for weights, own, part in ((x, 1, slice(0, p)), (y, 2, slice(p, None))):
            weights[..., 0] = means[..., part].square().sum(-1)
            weights[..., own] = 1
            weights[..., 3:][..., part] = -2 * means[..., part]
        return Lengths(*(torch.einsum("...i,...ij,...j->...", a, sums, b) for a, b in ((x, x), (y, y), (x, y))))

    def _known(self) -> tuple[Tensor, Tensor, int]:
        """The sums, the means of x and y counted from the origin, (..., p + q), and p."""
        if self._sums is None or self._origin is None:
            raise ValueError("these Moments have no data points yet: add(x, y) some")
        return self._sums, self._sums[..., 0, 3:] / self.points, self._origin[0].shape[-1]

    def _check(self, x: Tensor, y: Tensor) -> None:
        shapes = f"x is {tuple(x.shape)} and y is {tuple(y.shape)}"
        if x.ndim < 2 or y.ndim < 2 or not x.numel() or not y.numel():
            raise ValueError(f"activations are (..., n, p) and (..., n, q), data points by channels, but {shapes}")
        if x.shape[:-1] != y.shape[:-1]:
            raise ValueError(f"{shapes}: all but their last axis must agree. Compare both layers on the same inputs.")
        if self._origin is not None:
            before = [(*part.shape[:-2], part.shape[-1]) for part in self._origin]
            now = [(*part.shape[:-2], part.shape[-1]) for part in (x, y)]
            if before != now:
                raise ValueError(f"{shapes}, apart from n unlike the batches before. Use other Moments for each pair.")


def gathered(x: Tensor | Moments, y: Tensor | None) -> Moments:
    """The moments of the two arguments that every measure takes.

    Raises:
        ValueError: they are neither two tensors nor one Moments, or see `Moments.add`.
    """
    if isinstance(x, Moments) and y is None:
        return x
    if isinstance(x, Moments) or y is None:
        raise ValueError("a measure compares two tensors, (..., n, p) and (..., n, q), or takes one Moments alone")
    moments = Moments()
    moments.add(x, y)
    return moments
