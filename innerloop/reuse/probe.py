"""The paper's question, asked of any trained learner: rapid learning or feature reuse?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import nn

from innerloop.algorithms import freeze
from innerloop.evaluation import Score, evaluate
from innerloop.inner import InnerLoop
from innerloop.params import chosen, layers_of
from innerloop.predictors import NIL
from innerloop.progress import watched
from innerloop.reuse.adaptation import Change, change
from innerloop.reuse.freezing import freezing
from innerloop.reuse.likeness import EMPTY, Neurons, check_again, tasks_of
from innerloop.show import figure, table
from innerloop.tasks import Episodes, has_labels

_COMPARED = 50  # tasks


@dataclass(frozen=True)
class Probe:
    """Whether a learner learns rapidly or reuses its features, see `probe`."""

    layers: list[str]  # in order, the head last
    freezing: list[Score]  # with the first 0, 1, ..., n layers frozen in the inner loop
    nil: Score  # no inner loop and no head
    change: Change
    way: int
    body_adapts: bool  # False where the inner loop may change the head alone, as ANIL's

    @property
    def cost(self) -> tuple[float, float]:
        """Accuracy lost by freezing all but the head, and half its 95 % interval, paired by episode."""
        lost = self.freezing[0].values[-1] - self.freezing[-1].values[-1]
        return float(lost.mean()), float(1.96 * lost.std() / len(lost) ** 0.5)

    @property
    def verdict(self) -> str:
        """One sentence with its numbers."""
        whole, frozen, chance = self.freezing[0].mean, self.freezing[-1].mean, 1 / self.way
        if not self.body_adapts:
            return (
                f"Nothing to tell: this inner loop changes the head alone, so the body is reused by its rule. "
                f"Accuracy is {whole:.1%} with it and {self.nil.mean:.1%} without any (NIL), chance "
                f"{chance:.1%}. Probe it with an inner loop that may change all layers (maml) to see whether the body "
                "would learn."
            )
        body = {layer: self.change.cca[layer] for layer in self.layers[:-1]}
        least, head = min(body, key=lambda layer: body[layer]), self.layers[-1]
        half = self.cost[1]
        numbers = (
            f"with all layers but the head frozen in the inner loop, accuracy goes from {whole:.1%} to {frozen:.1%} "
            f"({100 * (frozen - whole):+.1f} ± {100 * half:.1f} points, chance {chance:.1%}); the layers of the body "
            f"keep a CCA of at least {body[least]:.2f} ({least}; unrelated images: "
            f"{self.change.permuted['cca'][least]:.2f}) where the head has {self.change.cca[head]:.2f} ("
            f"{self.change.permuted['cca'][head]:.2f}); "
            f"without any inner loop (NIL) accuracy is {self.nil.mean:.1%}."
        )
        return f"{self._kind(whole - chance, frozen - chance)}: {numbers}"

    def __str__(self) -> str:
        return self.verdict

    def __repr__(self) -> str:
        return f"<Probe {self.verdict}>"

    def _repr_html_(self) -> str:
        return table(
            self.verdict, ("layer", "CCA", "unrelated", "CKA", "weights moved", "accuracy, frozen"), self._rows()
        )

    def _rows(self) -> list[tuple[str, ...]]:
        moved, chance = self.change, self.change.permuted["cca"]
        frozen = [f"{score.mean:.4f}" for score in self.freezing[1:]] + [""]
        return [
            (layer, *(f"{values[layer]:.3f}" for values in (moved.cca, chance, moved.cka, moved.distance)), accuracy)
            for layer, accuracy in zip(self.layers, frozen, strict=True)
        ]

    def plot(self) -> Any:
        """A matplotlib figure: accuracy with layers frozen, and how alike each layer is before and after."""
        drawn, (left, right) = figure(2)
        means, halves = ([getattr(score, kind) for score in self.freezing] for kind in ("mean", "interval"))
        left.errorbar(["none", *self.layers[:-1]], means, halves, marker="o", capsize=3)
        left.axhline(1 / self.way, color="black", lw=0.8, ls=":")
        left.set(xlabel="last layer frozen", ylabel="accuracy")
        for name, values in (("CCA", self.change.cca), ("CKA", self.change.cka)):
            right.plot(self.layers, [values[layer] for layer in self.layers], "o-", label=name)
        unrelated = self.change.permuted["cca"]
        right.plot(self.layers, [unrelated[layer] for layer in self.layers], "o:", label="CCA of unrelated images")
        right.set(xlabel="layer", ylabel="similarity", ylim=(0, 1.02))
        right.legend(frameon=False)
        return drawn

    def _kind(self, whole: float, frozen: float) -> str:
        if whole <= max(self.freezing[0].interval, 1e-6):  # a network that always gives one answer has no interval
            return "Nothing learnt"
        half = self.cost[1]
        low, high = (_named((frozen + change) / whole) for change in (-half, half))
        return low if low == high else f"{low} or {high.lower()} (more episodes would tell)"


def _named(share: float) -> str:
    """Of the accuracy above chance, what is left with the body frozen."""
    return "Feature reuse" if share >= 0.9 else "Rapid learning" if share < 0.5 else "Some of both"


def probe(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    compared: Iterable[Episodes] | None = None,
    layers: Sequence[str] | None = None,
    neurons: Neurons = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Probe:
    """Ask the paper's question of a trained learner: rapid learning or feature reuse?

    The verdict is "feature reuse" if at least 0.9 of the accuracy above chance is left with all layers but the head
    frozen in the inner loop, "rapid learning" if less than half of it is, and "some of both" in between; two of them
    where the 95 % interval of the cost of freezing, paired by episode, holds both. An inner loop that may change the
    head alone (ANIL) tells nothing about the body: pass `maml(...)` for such a learner.

    Args:
        model: any module; of one that is no named Sequential, pass `layers`.
        episodes: two classification tasks or more that the training has not seen, gone through once for every layer.
        inner: the inner loop that the learner was trained for. Its `statistics` hold for the accuracies; layers are
            always compared by the query set's own.
        compared: tasks on which layers are compared before and after adaptation, with query images enough (15 a class
            or more); the first 50 of `episodes` if not given.
        layers: names of modules in order, the head last, that hold all that adapts; None takes the children of a
            Sequential with parameters.
        neurons: the axis of the neurons in what the layers put out, one or one for each layer, where their shapes do
            not say it: -1 for (n, tokens, features).
        chunk_size: tasks in memory at once, see `predict`.
        progress: show bars on a terminal.

    Raises:
        ValueError: too few query images to compare layers by CCA, a layer or the inner loop does not fit the model, the
            targets are no labels, or `episodes` come from a generator.
    """
    names = layers_of(model) if layers is None else list(layers)
    _check_layers(model, inner, names)
    check_again(episodes)
    first = next(iter(episodes), None)
    if first is None:
        raise ValueError(EMPTY)
    if not has_labels(first.query_y):
        raise ValueError(
            f"a probe counts right answers and needs labels, got targets of {first.query_y.dtype}: for values, use "
            "`freezing` and `change` with their loss"
        )
    some = islice(tasks_of(episodes), _COMPARED) if compared is None else tasks_of(compared)
    some = watched(some, "comparing layers", progress)
    tasks = (Episodes(*(part.unsqueeze(0) for part in task)) for task in some)
    moved = change(model, tasks, inner, layers=names, neurons=neurons)
    scores = freezing(model, episodes, inner, layers=names, chunk_size=chunk_size, progress=progress)
    if scores[0].values.shape[1] < 2:
        raise ValueError("one episode says nothing about others: give a probe two or more, better 100")
    way = int(first.support_y.max()) + 1
    without = NIL(way=way, head=names[-1], statistics=inner.statistics)
    nil = evaluate(model, episodes, without, chunk_size=chunk_size, progress=progress)
    adapts = chosen(model, inner.adapt) != chosen(model, freeze(inner, *names[:-1]).adapt)
    return Probe(names, scores, nil, moved, way, adapts)


def _check_layers(model: nn.Module, inner: InnerLoop, layers: Sequence[str]) -> None:
    if len(layers) < 2:
        raise ValueError(f"a probe compares a body with a head, and there is only {', '.join(layers) or 'no layer'}")
    if loose := chosen(model, freeze(inner, *layers).adapt):
        raise ValueError(
            f"{', '.join(loose)} would adapt even with {', '.join(layers)} frozen: name all layers that adapt in "
            "`layers`, or take the others out of the inner loop's `adapt`"
        )
