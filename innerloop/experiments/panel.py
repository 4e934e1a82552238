"""How answers become the lines of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Panels, Series
from innerloop.experiments.few_shot import Learning

LAYERS = {"block1": "Conv1", "block2": "Conv2", "block3": "Conv3", "block4": "Conv4", "head": "Head"}
BODY = tuple(layer for layer in LAYERS if layer != "head")
_POINTS = 60  # of a training curve


def mean_line(label: str, x: Sequence[Any], repeats: Sequence[Sequence[float]]) -> Series:
    """The mean over repeats (seeds), which must be at least one, with their standard deviation from two on."""
    columns = list(zip(*repeats, strict=True))
    spread = tuple(map(stdev, columns)) if len(repeats) > 1 else ()
    return Series(label, tuple(x), tuple(map(fmean, columns)), spread)


def by_layer(label: str, repeats: Sequence[Mapping[str, float]]) -> Series:
    """One value a layer."""
    return mean_line(label, tuple(LAYERS.values()), [[values[layer] for layer in LAYERS] for values in repeats])


def curve(label: str, x: Sequence[float], repeats: Sequence[Sequence[float]]) -> Series:
    """A value over training, averaged within blocks so that some sixty points are left."""
    size = -(-len(x) // _POINTS)
    blocks = [slice(start, start + size) for start in range(0, len(x), size)]
    ends = [x[block][-1] for block in blocks]
    return mean_line(label, ends, [[fmean(values[block]) for block in blocks] for values in repeats])


def body_stays(panels: Panels, title: str, labels: Sequence[str], least: float) -> bool:
    """Whether every layer of the body has at least this value, in all of these lines."""
    return all(min(panels[title][label].y[:-1]) >= least for label in labels)


def validation(answer: Learning) -> list[float]:
    """Validation accuracies in %."""
    return [100 * value for value in answer.val_accuracy]


class Line(NamedTuple):
    """y = slope x + intercept, fitted by least squares; r2 is the share of y's variance that it explains."""

    slope: float
    intercept: float
    r2: float


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of best fit.

    Raises:
        KeyError: fewer than three points, or all at one x: not enough runs.
    """
    n = len(x)
    mean_x, mean_y = sum(x) / max(n, 1), sum(y) / max(n, 1)
    xx = sum((a - mean_x) ** 2 for a in x)
    if n < 3 or xx == 0:
        raise KeyError("too few points for a line")
    xy = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    yy = sum((b - mean_y) ** 2 for b in y)
    return Line(xy / xx, mean_y - xy / xx * mean_x, xy**2 / (xx * yy) if yy else 1.0)
