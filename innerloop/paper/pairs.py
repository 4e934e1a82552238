"""Pairs of networks of different seeds, and a line through points: for Tables 3 and 8 and Figures 7, 8 and 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

from innerloop.experiments.exhibits import Answer
from innerloop.experiments.questions import Resemblance
from innerloop.paper.scales import Regime, Scale


def pair(scale: Scale, problem: str, first: Regime, second: Regime, repeat: int) -> Resemblance | None:
    """The `repeat`-th pair of seeds, the same for all regimes; None where there are no more.

    A further seed adds pairs and changes none.
    """
    seeds = sorted(combinations(range(scale.seeds), 2), key=lambda pair: pair[::-1])
    if repeat >= len(seeds):
        return None
    a, b = seeds[repeat]
    return Resemblance(scale.run(problem, first, a), scale.run(problem, second, b), scale.episodes)


def likeness(kind: str, layers: Sequence[str], when: str = "pre-pre") -> Callable[[Answer], float]:
    """Reads a Resemblance: the mean of "cca" or "cka" over layers."""
    return lambda answer: sum(answer[kind][when][layer] for layer in layers) / len(layers)


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
