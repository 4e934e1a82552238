"""How alike the layers of networks are, gathered task by task: what the comparisons of this package share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor, nn

from innerloop.similarity import CCA, CKA, fold, linear_cka, mean_cca
from innerloop.similarity.moments import gathered
from innerloop.tasks import Episodes

ByLayer = dict[str, float]
Neurons = int | Mapping[str, int] | None
"""The axis of the neurons in what every layer puts out, or in each one's; None where the shape says it, see `fold`."""
EMPTY = "there are no episodes to analyse; check the stream's `count`"


def check_again(episodes: Iterable[Episodes]) -> None:
    """Refuse what can be gone through only once."""
    if isinstance(episodes, Iterator):
        raise ValueError("episodes are gone through once for every layer, a generator only once: pass list(episodes)")


def tasks_of(episodes: Iterable[Episodes]) -> Iterable[tuple[Tensor, ...]]:
    """One task after the other, without its axis."""
    return (task for batch in episodes for task in zip(*batch, strict=True))


@dataclass
class Likenesses:
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
        return mean_of(
            [{name: float(values[int(permuted)]) for name, values in row.items()} for row in self.rows[kind]]
        )

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


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The state of a network by name, without gradients."""
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}


def mean_of(rows: list[ByLayer]) -> ByLayer:
    """Over tasks, by layer."""
    if not rows:
        raise ValueError(EMPTY)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
