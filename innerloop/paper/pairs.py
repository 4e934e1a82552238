"""Pairs of networks of different seeds: for Tables 3 and 8 and Figures 7, 8 and 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from innerloop.experiments.few_shot import Likeness
from innerloop.experiments.scale import Scale
from innerloop.paper.scales import Regime, training
from innerloop.reuse.networks import Resemblance


def pair(scale: Scale, problem: str, first: Regime, second: Regime, repeat: int) -> Likeness | None:
    """The `repeat`-th pair of seeds, the same for all regimes; None where there are no more.

    A further seed adds pairs and changes none.
    """
    seeds = sorted(combinations(range(scale.seeds), 2), key=lambda pair: pair[::-1])
    if repeat >= len(seeds):
        return None
    a, b = seeds[repeat]
    return Likeness(training(scale, problem, first, a), training(scale, problem, second, b), scale.counts["compared"])


def likeness(kind: str, layers: Sequence[str], when: str = "pre-pre") -> Callable[[Resemblance], float]:
    """Reads a Likeness: the mean of "cca" or "cka" over layers."""
    return lambda answer: sum(getattr(answer, kind)[when][layer] for layer in layers) / len(layers)
