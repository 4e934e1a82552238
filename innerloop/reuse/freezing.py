"""Which layers have to adapt? Accuracy with layer after layer frozen (Raghu et al. 2020, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from innerloop.algorithms import freeze
from innerloop.evaluation import Score, evaluate
from innerloop.inner import InnerLoop
from innerloop.params import layers_of
from innerloop.progress import watched
from innerloop.reuse.likeness import check_again
from innerloop.tasks import Episodes


def freezing(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    layers: Sequence[str] | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> list[Score]:
    """Test with the first 0, 1, ..., n layers frozen in the inner loop, where n leaves the last layer, the head.

    Raises:
        ValueError: `episodes`, which are gone through n + 1 times, come from a generator.
    """
    check_again(episodes)
    body = (layers_of(model) if layers is None else list(layers))[:-1]
    return [
        evaluate(model, episodes, freeze(inner, *body[:count]), chunk_size=chunk_size)
        for count in watched(range(len(body) + 1), "freezing layers", progress)
    ]
