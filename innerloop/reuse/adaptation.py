"""What the inner loop does to each layer of a network (Raghu et al. 2020, section 3.2.2).

Layers are the children of a named Sequential that have parameters, the last of them the head; of any other module, the
names that are passed. Shapes: t tasks, s support and q query images a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from innerloop.inner import InnerLoop, adapt
from innerloop.params import layers_of, resting
from innerloop.reuse.likeness import ByLayer, Likenesses, Neurons, mean_of, state_of, tasks_of
from innerloop.similarity import activations, weight_distance
from innerloop.tasks import Episodes


@dataclass(frozen=True)
class Change:
    """How far the inner loop moves each layer: means over tasks, by layer."""

    cca: ByLayer  # between the layer's outputs for the query images before and after
    cka: ByLayer
    distance: ByLayer  # Euclidean, between its weights before and after
    permuted: dict[str, ByLayer]  # "cca" and "cka" of the same outputs, each image with another one
    points: dict[str, int]  # data points of each comparison: query images times positions
    tasks: int


def change(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    layers: Sequence[str] | None = None,
    neurons: Neurons = None,
) -> Change:
    """Compare each layer before and after adaptation, task by task; channels are neurons, positions data points.

    Raises:
        ValueError: there are too few query images, or a layer's shape does not say where its neurons lie.
    """
    names = layers_of(model) if layers is None else list(layers)
    before = state_of(model)
    found = Likenesses(neurons)
    moved: list[ByLayer] = []
    for support_x, support_y, query_x, _ in tasks_of(episodes):
        with resting(model):
            after = adapt(model, support_x, support_y, inner)
            pre, post = (activations(model, query_x, names, params) for params in (before, after))
        found.add(pre, post)
        moved.append({name: float(gap) for name, gap in weight_distance(before, after, names).items()})
    return Change(found.mean("cca"), found.mean("cka"), mean_of(moved), found.permuted(), found.points, len(moved))
