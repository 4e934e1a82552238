"""What every similarity measure needs to know of two layers' activations, gathered batch by batch.

Shapes: n data points, p channels of x, q channels of y, ... any leading axes, such as tasks.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.similarity.form import Form, Pairs, Side, Sides, check_finite, check_pair, principal
from innerloop.similarity.gram import Gram
from innerloop.similarity.memory import check_fits


class Scatter(NamedTuple):
    """Sums over data points of products of centred channels."""

    xx: Tensor  # (..., p, p)
    yy: Tensor  # (..., q, q)
    xy: Tensor  # (..., p, q)


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
            ValueError: x and y differ in n or in their leading axes, or from the batches before; a value is NaN or
                infinite; or so many channels do not fit into memory.
        """
        self._check(x, y)
        width = 3 + x.shape[-1] + y.shape[-1]
        check_fits(
            f"comparing {x.shape[-1]} with {y.shape[-1]} channels",
            8 * (2 * width + x.shape[-2]) * width * x[..., 0, 0].numel(),
            x.device,
            "average-pool channels, or compare two tensors of fewer data points than channels",
        )
        x, y = (part.detach().to(x.device, torch.float64) for part in (x, y))
        origin = self._origin or (x[..., :1, :], y[..., :1, :])
        x, y = x - origin[0], y - origin[1]
        lengths = [part.square().sum(-1, keepdim=True) for part in (x, y)]
        rows = torch.cat([torch.ones_like(lengths[0]), *lengths, x, y], -1)
        sums = rows.mT @ rows
        check_finite(sums)
        self._origin = origin
        self._sums = sums if self._sums is None else self._sums + sums
        self.points += x.shape[-2]

    def scatter(self) -> Scatter:
        """The unscaled covariances."""
        sums, means, p = self._known()
        whole = sums[..., 3:, 3:] - self.points * means[..., :, None] * means[..., None, :]
        return Scatter(whole[..., :p, :p], whole[..., p:, p:], whole[..., :p, p:])

    @property
    def widths(self) -> tuple[int, int]:
        """See `Form`."""
        sums, _, p = self._known()
        return p, sums.shape[-1] - 3 - p

    def traces(self) -> tuple[Tensor, Tensor]:
        """See `Form`."""
        scatter = self.scatter()
        return _diagonal(scatter.xx).sum(-1), _diagonal(scatter.yy).sum(-1)

    def norms(self) -> Pairs:
        """See `Form`."""
        return Pairs(*(part.square().sum((-2, -1)) for part in self.scatter()))

    def nuclear(self) -> Tensor:
        """See `Form`."""
        return torch.linalg.svdvals(self.scatter().xy).sum(-1)

    def sides(self, keep: float) -> Sides:
        """See `Form`."""
        scatter = self.scatter()
        found: list[Side] = []
        whites: list[Tensor] = []  # columns that map channels to directions of length 1; 0 for a dropped one
        for own in (scatter.xx, scatter.yy):
            # No entry off the diagonal is larger.
            lengths, directions, kept = principal(own, _diagonal(own).amax(-1), keep)
            whites.append(directions / lengths[..., None, :])
            found.append(Side(kept.sum(-1), partial(_channels, own, whites[-1])))
        return Sides(found[0], found[1], whites[0].mT @ scatter.xy @ whites[1])

    def lengths(self) -> Pairs:
        """See `Form`."""
        sums, means, p = self._known()
        # |x - mean|^2 and |y - mean|^2 as weights of the row (1, |x|^2, |y|^2, x, y).
        x, y = torch.zeros_like(sums[..., 0]), torch.zeros_like(sums[..., 0])
        for weights, own, part in ((x, 1, slice(0, p)), (y, 2, slice(p, None))):
            weights[..., 0] = means[..., part].square().sum(-1)
            weights[..., own] = 1
            weights[..., 3:][..., part] = -2 * means[..., part]
        return Pairs(*(torch.einsum("...i,...ij,...j->...", a, sums, b) for a, b in ((x, x), (y, y), (x, y))))

    def _known(self) -> tuple[Tensor, Tensor, int]:
        """The sums, the means of x and y counted from the origin, (..., p + q), and p."""
        if self._sums is None or self._origin is None:
            raise ValueError("these Moments have no data points yet: add(x, y) some")
        return self._sums, self._sums[..., 0, 3:] / self.points, self._origin[0].shape[-1]

    def _check(self, x: Tensor, y: Tensor) -> None:
        check_pair(x, y)
        if self._origin is not None:
            before = [(*part.shape[:-2], part.shape[-1]) for part in self._origin]
            now = [(*part.shape[:-2], part.shape[-1]) for part in (x, y)]
            if before != now:
                shapes = f"x is {tuple(x.shape)} and y is {tuple(y.shape)}"
                raise ValueError(f"{shapes}, apart from n unlike the batches before. Use other Moments for each pair.")


def gathered(x: Tensor | Form, y: Tensor | None) -> Form:
    """The arguments that every measure takes, in the form that takes less memory: `Gram` for n below p or q.

    Raises:
        ValueError: they are neither two tensors nor one Moments, or see `Moments.add`.
    """
    if not isinstance(x, Tensor) and y is None:
        return x
    if not isinstance(x, Tensor) or y is None:
        raise ValueError("a measure compares two tensors, (..., n, p) and (..., n, q), or takes one Moments alone")
    check_pair(x, y)
    if x.shape[-2] < max(x.shape[-1], y.shape[-1]):
        return Gram(x, y)
    moments = Moments()
    moments.add(x, y)
    return moments


def _channels(own: Tensor, white: Tensor, sums: Tensor) -> Tensor:
    """What each channel has of sums of directions."""
    return own @ (white @ sums)


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)
