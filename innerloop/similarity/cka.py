"""Linear centred kernel alignment of two layers (Kornblith et al., 2019), plain and debiased.

It does not change under shifts, rotations and one scale for all channels, but does under other linear maps.
Convolution outputs, (n, c, h, w), go through `fold` first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.similarity.form import Form, Pairs
from innerloop.similarity.moments import gathered
from innerloop.similarity.noise import warn_of_noise, warn_of_silence


@dataclass(frozen=True)
class CKA:
    """How alike two layers are: from 0 to 1, or to either side of 0 for unrelated ones if debiased."""

    value: Tensor  # (...)
    points: int  # data points used
    floor: Tensor  # (...), of noise: the mean over all ways to pair up the same data points at random; see `linear_cka`


def linear_cka(x: Tensor | Form, y: Tensor | None = None, *, debiased: bool = False) -> CKA:
    """Linear CKA of x, (..., n, p), and y, (..., n, q), whatever is larger, n or p.

    Dead channels change nothing. The plain value grows as data points get fewer than channels; the debiased one (Song
    et al., 2007) does not. Its `floor` is how far independent noise strays to either side of 0, one standard deviation:
    sqrt(2 / (n (n - 3))), whatever the widths.

    Raises:
        ValueError: fewer than 3 data points, or 4 if debiased, or see `Moments.add`.
    """
    return _measure(gathered(x, y), debiased)


def _measure(form: Form, debiased: bool) -> CKA:
    (xx, yy, xy), (trace_x, trace_y) = form.norms(), form.traces()
    n, least = form.points, 4 if debiased else 3
    if n < least:
        raise ValueError(f"linear CKA got {n} data points and needs at least {least}: use more inputs, or fold pixels")
    floor = _over(trace_x * trace_y / (n - 1), xx, yy)
    if debiased:
        xx, yy, xy = _debias(form)
        floor = (floor > 0) * (2 / (n * (n - 3))) ** 0.5
    value = _over(xy, xx, yy).clamp(-1.0 if debiased else 0.0, 1.0)
    warn_of_silence((trace_x <= 0) | (trace_y <= 0), "linear CKA")
    warn_of_noise(floor, n, "linear CKA")
    return CKA(value, n, floor)


def _debias(form: Form) -> Pairs:
    """The unbiased HSIC of Song et al. times n (n - 3).

    With centred rows, the sums over Gram matrices without their diagonals come down to three terms each.
    """
    n, (x, y) = form.points, form.traces()
    parts = zip(form.norms(), form.lengths(), ((x, x), (y, y), (x, y)), strict=True)
    return Pairs(*(whole - n / (n - 2) * own + a * b / ((n - 1) * (n - 2)) for whole, own, (a, b) in parts))


def _over(product: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Product / sqrt(xx yy), or 0 where one of them is not above 0."""
    there = (xx > 0) & (yy > 0)
    return torch.where(there, product / torch.where(there, xx.sqrt() * yy.sqrt(), 1.0), 0.0)
