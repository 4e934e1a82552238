"""Two layers with fewer data points than channels: sums over channels, one for each pair of data points."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from innerloop.similarity.form import Pairs, Side, Sides, check_finite, check_pair, principal
from innerloop.similarity.memory import check_fits

_AT_ONCE = 2**22  # numbers of a layer that are centred in float64 at a time


class Gram:
    """A `Form` of x, (..., n, p), and y, (..., n, q), in memory (n, n): channels need not fit in float64 at once.

    Raises:
        ValueError: see `check_pair`, `check_fits` and `check_finite`.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        check_pair(x, y)
        self.points, self.widths = x.shape[-2], (x.shape[-1], y.shape[-1])
        check_fits(
            f"comparing {self.points} data points with each other",
            8 * 3 * self.points**2 * x[..., 0, 0].numel(),
            x.device,
            "take fewer data points",
        )
        self._layers = x.detach(), y.detach().to(x.device)
        (self._x, self._x_largest), (self._y, self._y_largest) = map(_products, self._layers)
        check_finite(self._x, self._y)

    def traces(self) -> tuple[Tensor, Tensor]:
        """See `Form`."""
        return _diagonal(self._x).sum(-1), _diagonal(self._y).sum(-1)

    def norms(self) -> Pairs:
        """See `Form`."""
        x, y = self._x.flatten(-2), self._y.flatten(-2)
        return Pairs(*(torch.linalg.vecdot(a, b) for a, b in ((x, x), (y, y), (x, y))))

    def lengths(self) -> Pairs:
        """See `Form`."""
        x, y = _diagonal(self._x), _diagonal(self._y)
        return Pairs(*(torch.linalg.vecdot(a, b) for a, b in ((x, x), (y, y), (x, y))))

    def nuclear(self) -> Tensor:
        """See `Form`."""
        x, y = (_root(part) for part in (self._x, self._y))
        return torch.linalg.svdvals(x.mT @ y).sum(-1)

    def sides(self, keep: float) -> Sides:
        """See `Form`."""
        found: list[Side] = []
        bases: list[Tensor] = []
        for products, largest, layer in zip(
            (self._x, self._y), (self._x_largest, self._y_largest), self._layers, strict=True
        ):
            _, directions, kept = principal(products, largest, keep)
            bases.append(directions * kept[..., None, :])
            found.append(Side(kept.sum(-1), partial(_channels, layer, bases[-1])))
        return Sides(found[0], found[1], bases[0].mT @ bases[1])


def _products(layer: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of products of data points, (..., n, n), and the largest sum of squares of a channel, (...)."""
    products, largest = None, torch.zeros(layer.shape[:-2], dtype=torch.float64, device=layer.device)
    for part in _centred(layer):
        products = part @ part.mT if products is None else products.add_(part @ part.mT)
        largest = torch.maximum(largest, part.square().sum(-2).amax(-1))
    assert products is not None
    return products, largest


def _channels(layer: Tensor, directions: Tensor, sums: Tensor) -> Tensor:
    """What each channel has of sums of directions: (..., n, k) and (..., k, m) to (..., p, m)."""
    return torch.cat([part.mT @ (directions @ sums) for part in _centred(layer)], -2)


def _centred(layer: Tensor) -> Iterator[Tensor]:
    """Some channels at a time, in float64: counted from the first data point, so that far from 0 no digit is lost."""
    for part in layer.split(max(_AT_ONCE // layer[..., 0].numel(), 1), -1):
        moved = part.double() - part[..., :1, :].double()
        yield moved - moved.mean(-2, keepdim=True)


def _root(products: Tensor) -> Tensor:
    """R with R R' = products."""
    variances, directions = torch.linalg.eigh(products)
    return directions * variances.clamp(min=0).sqrt()[..., None, :]


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)
