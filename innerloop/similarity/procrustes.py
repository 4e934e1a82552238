"""Orthogonal Procrustes: how far one layer is the other, but for a rotation, a shift and a scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.similarity.form import Form
from innerloop.similarity.moments import gathered
from innerloop.similarity.noise import warn_of_silence


@dataclass(frozen=True)
class Procrustes:
    """How alike two layers are after the best rotation of one onto the other."""

    value: Tensor  # (...), from 0 to 1: the cosine between the layers, all activations as one vector
    distance: Tensor  # (...), its angle, from 0 to pi / 2; it obeys the triangle inequality
    points: int  # data points used


def procrustes(x: Tensor | Form, y: Tensor | None = None) -> Procrustes:
    """Orthogonal Procrustes similarity of x, (..., n, p), and y, (..., n, q): |X'Y|* / (|X| |Y|), of centred channels.

    |.|* is the sum of the singular values, |.| the Frobenius norm. It is the largest cosine between X and a rotation of
    Y, with channels of zeros for those that the narrower layer lacks. It does not change under shifts, rotations and
    one scale for all channels of a layer; it does under other linear maps, which CCA does not see: features that are
    "the same" for CCA, but which a new head has to be fitted to, are not for this measure. With few data points beside
    channels it is high for noise, too: compare with permuted data points. Its angle is the distance of Williams et al.
    (2021), with no flexibility but the rotation.

    Raises:
        ValueError: fewer than 2 data points, or see `Moments.add`.
    """
    form = gathered(x, y)
    trace_x, trace_y = form.traces()
    if form.points < 2:
        raise ValueError(f"Procrustes got {form.points} data point and needs at least 2: use more inputs")
    there = (trace_x > 0) & (trace_y > 0)
    scale = torch.where(there, (trace_x * trace_y).sqrt(), 1.0)
    value = torch.where(there, form.nuclear() / scale, 0.0).clamp(0, 1)
    warn_of_silence(~there, "Procrustes", caller=3)
    return Procrustes(value, value.arccos(), form.points)
