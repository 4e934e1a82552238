"""How answers become the lines of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from innerloop.experiments.exhibits import Answer, Panels, Series

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


def validation(answer: Answer) -> list[float]:
    """Validation accuracies in %."""
    return [100 * value for value in answer["val_accuracy"]]
