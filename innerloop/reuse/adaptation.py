"""Rapid learning or feature reuse? What the inner loop does to each layer of a network (Raghu et al. 2020, section 3).

Layers are the children of a named Sequential that have parameters, the last of them the head; of any other module, the
names that are passed. Shapes: t tasks, s support and q query images a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean

import torch
from torch import Tensor, nn

from innerloop.algorithms import freeze
from innerloop.evaluation import Score, evaluate
from innerloop.inner import InnerLoop, adapt
from innerloop.params import layers_of, resting
from innerloop.progress import watched
from innerloop.similarity import CCA, CKA, activations, fold, linear_cka, mean_cca, weight_distance
from innerloop.similarity.moments import gathered
from innerloop.tasks import Episodes

ByLayer = dict[str, float]
Neurons = int | Mapping[str, int] | None
"""The axis of the neurons in what every layer puts out, or in each one's; None where the shape says it, see `fold`."""
EMPTY = "there are no episodes to analyse; check the stream's `count`"


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
    before = _state(model)
    found = _Likenesses(neurons)
    moved: list[ByLayer] = []
    for support_x, support_y, query_x, _ in tasks_of(episodes):
        with resting(model):
            after = adapt(model, support_x, support_y, inner)
            pre, post = (activations(model, query_x, names, params) for params in (before, after))
        found.add(pre, post)
        moved.append({name: float(gap) for name, gap in weight_distance(before, after, names).items()})
    return Change(found.mean("cca"), found.mean("cka"), _mean(moved), found.permuted(), found.points, len(moved))


@dataclass(frozen=True)
class Resemblance:
    """How alike two networks see the same tasks: "pre-post" is the first before, the second after it adapted."""

    cca: dict[str, ByLayer]
    cka: dict[str, ByLayer]
    permuted: dict[str, ByLayer]  # "cca" and "cka" before adaptation, each image with another one
    points: dict[str, int]  # data points of each comparison
    tasks: int


def resemblance(
    first: nn.Module,
    second: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop | None = None,
    *,
    layers: Sequence[str] | None = None,
    neurons: Neurons = None,
) -> Resemblance:
    """Compare the layers of two networks on the query images of the same tasks, each layer with its namesake.

    With `inner`, also after each network has adapted to the task; without, "pre-pre" alone.
    """
    names = layers_of(first) if layers is None else list(layers)
    times = ("pre", "post") if inner else ("pre",)
    pairs = {f"{a}-{b}": (a, b) for a, b in product(times, times)}
    found = {when: _Likenesses(neurons) for when in pairs}
    for support_x, support_y, query_x, _ in tasks_of(episodes):
        seen: list[dict[str, Mapping[str, Tensor]]] = []
        for network in (first, second):
            states = {"pre": _state(network)}
            with resting(network):
                if inner:
                    states["post"] = adapt(network, support_x, support_y, inner)
                seen.append({time: activations(network, query_x, names, state) for time, state in states.items()})
        for when, (a, b) in pairs.items():
            found[when].add(seen[0][a], seen[1][b])
    cca, cka = ({when: each.mean(kind) for when, each in found.items()} for kind in ("cca", "cka"))
    before = found["pre-pre"]
    return Resemblance(cca, cka, before.permuted(), before.points, len(before.rows["cca"]))


def check_again(episodes: Iterable[Episodes]) -> None:
    """Refuse what can be gone through only once."""
    if isinstance(episodes, Iterator):
        raise ValueError("episodes are gone through once for every layer, a generator only once: pass list(episodes)")


@dataclass
class _Likenesses:
    """How alike layers are, gathered task by task."""

    neurons: Neurons = None
    rows: dict[str, list[dict[str, Tensor]]] = field(default_factory=lambda: {"cca": [], "cka": []})
    points: dict[str, int] = field(default_factory=dict)

    def add(self, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
        """Outputs of layers for the same images of a task, (q, ...)."""
        axes = self.neurons if isinstance(self.neurons, Mapping) else dict.fromkeys(one, self.neurons)
        found = {name: _likeness(name, one[name], other[name], len(self.rows["cca"]), axes.get(name)) for name in one}
        self.rows["cca"].append({name: cca.value for name, (cca, _) in found.items()})
        self.rows["cka"].append({name: cka.value for name, (_, cka) in found.items()})
        self.points = {name: cca.points for name, (cca, _) in found.items()}

    def mean(self, kind: str, *, permuted: bool = False) -> ByLayer:
        """Over tasks, of "cca" or "cka"."""
        return _mean([{name: float(values[int(permuted)]) for name, values in row.items()} for row in self.rows[kind]])

    def permuted(self) -> dict[str, ByLayer]:
        return {kind: self.mean(kind, permuted=True) for kind in self.rows}


def _likeness(layer: str, one: Tensor, other: Tensor, task: int, neurons: int | None) -> tuple[CCA, CKA]:
    """(2,) each: of every image with itself, and of every image with another, which tells what chance would score."""
    order = torch.randperm(len(one), generator=torch.Generator().manual_seed(task)).to(one.device)
    another = torch.empty_like(order).scatter_(0, order, order.roll(1))  # one cycle: no image meets itself
    try:
        first, second, third = (fold(outputs, neurons) for outputs in (one, other, other[another]))
        pairs = gathered(first.expand(2, -1, -1), torch.stack([second, third]))
        return mean_cca(pairs), linear_cka(pairs)
    except ValueError as error:
        raise ValueError(f"{layer} cannot be compared on {len(one)} query images a task: {error}") from error


def tasks_of(episodes: Iterable[Episodes]) -> Iterable[tuple[Tensor, ...]]:
    """One task after the other, without its axis."""
    return (task for batch in episodes for task in zip(*batch, strict=True))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}


def _mean(rows: list[ByLayer]) -> ByLayer:
    if not rows:
        raise ValueError(EMPTY)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
