"""Rapid learning or feature reuse? What the inner loop does to each layer of a network (Raghu et al. 2020, section 3).

Layers are the children of a named Sequential that have parameters, the last of them the head; of any other module, the
names that are passed. Shapes: t tasks, s support and q query images a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from statistics import fmean

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.inner import Episodes, InnerLoop, Loss, adapt
from innerloop.modules import children, chosen
from innerloop.norm import Norm
from innerloop.outer import Score, evaluate, has_labels
from innerloop.rules import NIL, freeze
from innerloop.similarity import CCA, CKA, activations, fold, linear_cka, mean_cca, weight_distance

ByLayer = dict[str, float]
_COMPARED = 50  # tasks
_EMPTY = "there are no episodes to analyse; check the stream's `count`"


def layers_of(model: nn.Module) -> list[str]:
    """The names of a Sequential's children that have parameters, in order; the last is the head.

    Raises:
        ValueError: it is no Sequential, so that its layers have no order.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise ValueError(f"a {type(model).__name__} is no Sequential: pass layers=[...] in order, the head last")
    return [name for name, part in children(model) if any(True for _ in part.parameters())]


def freezing(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    layers: Sequence[str] | None = None,
    loss: Loss = F.cross_entropy,
    norm: Norm = "transductive",
    at_once: int | None = None,
) -> list[Score]:
    """Test with the first 0, 1, ..., n layers frozen in the inner loop, where n leaves the last layer, the head.

    Raises:
        ValueError: `episodes`, which are gone through n + 1 times, come from a generator.
    """
    _check_again(episodes)
    body = (layers_of(model) if layers is None else list(layers))[:-1]
    return [
        evaluate(freeze(inner, *body[:count]), model, episodes, loss=loss, norm=norm, at_once=at_once)
        for count in range(len(body) + 1)
    ]


@dataclass(frozen=True)
class Change:
    """How far the inner loop moves each layer: means over tasks, by layer."""

    cca: ByLayer  # between the layer's outputs for the query images before and after
    cka: ByLayer
    distance: ByLayer  # Euclidean, between its weights before and after
    points: dict[str, int]  # data points of each comparison: query images times positions
    floor: ByLayer  # the CCA of independent noise with so many points and channels
    tasks: int


def change(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    layers: Sequence[str] | None = None,
    loss: Loss = F.cross_entropy,
) -> Change:
    """Compare each layer before and after adaptation, task by task; channels are neurons, positions data points."""
    names = layers_of(model) if layers is None else list(layers)
    before = _state(model)
    ccas: list[ByLayer] = []
    ckas: list[ByLayer] = []
    moved: list[ByLayer] = []
    points: dict[str, int] = {}
    floor: ByLayer = {}
    for support_x, support_y, query_x, _ in _tasks(episodes):
        with _resting(model):
            after = adapt(model, support_x, support_y, inner, loss=loss)
            pre, post = (activations(model, query_x, names, params) for params in (before, after))
        found = {name: _likeness(name, pre[name], post[name]) for name in names}
        ccas.append({name: float(cca.value) for name, (cca, _) in found.items()})
        ckas.append({name: float(cka.value) for name, (_, cka) in found.items()})
        moved.append({name: float(gap) for name, gap in weight_distance(before, after, names).items()})
        points = {name: cca.points for name, (cca, _) in found.items()}
        floor = {name: float(cca.floor) for name, (cca, _) in found.items()}
    return Change(_mean(ccas), _mean(ckas), _mean(moved), points, floor, len(ccas))


@dataclass(frozen=True)
class Probe:
    """Whether a learner learns rapidly or reuses its features, see `probe`."""

    layers: list[str]  # in order, the head last
    freezing: list[Score]  # with the first 0, 1, ..., n layers frozen in the inner loop
    nil: Score  # no inner loop and no head
    change: Change
    way: int

    @property
    def cost(self) -> tuple[float, float]:
        """Accuracy lost by freezing all but the head, and half its 95 % interval, paired by episode."""
        lost = self.freezing[0].values[-1] - self.freezing[-1].values[-1]
        return float(lost.mean()), float(1.96 * lost.std() / len(lost) ** 0.5)

    @property
    def verdict(self) -> str:
        """One sentence with its numbers."""
        whole, frozen, chance = self.freezing[0].mean, self.freezing[-1].mean, 1 / self.way
        body = {layer: self.change.cca[layer] for layer in self.layers[:-1]}
        least = min(body, key=lambda layer: body[layer])
        _, half = self.cost
        numbers = (
            f"with all layers but the head frozen in the inner loop, accuracy goes from {whole:.1%} to {frozen:.1%} "
            f"({100 * (frozen - whole):+.1f} ± {100 * half:.1f} points, chance {chance:.1%}); the layers of the body "
            f"keep a CCA of at least {body[least]:.2f} ({least}) where the head has "
            f"{self.change.cca[self.layers[-1]]:.2f}; "
            f"without any inner loop (NIL) accuracy is {self.nil.mean:.1%}."
        )
        return f"{self._kind(whole - chance, frozen - chance)}: {numbers}"

    def _kind(self, whole: float, frozen: float) -> str:
        if whole <= self.freezing[0].interval:
            return "Nothing learnt"
        share = frozen / whole
        return "Feature reuse" if share >= 0.9 else "Rapid learning" if share < 0.5 else "Some of both"


def probe(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    compared: Iterable[Episodes] | None = None,
    layers: Sequence[str] | None = None,
    norm: Norm = "transductive",
    at_once: int | None = None,
) -> Probe:
    """Ask the paper's question of a trained learner: rapid learning or feature reuse?

    The verdict is "feature reuse" if at least 0.9 of the accuracy above chance is left with all layers but the head
    frozen in the inner loop, "rapid learning" if less than half of it is, and "some of both" in between.

    Args:
        model: any module; of one that is no named Sequential, pass `layers`.
        episodes: two classification tasks or more that the training has not seen, gone through once for every layer.
        inner: the inner loop that the learner was trained for.
        compared: tasks on which layers are compared before and after adaptation, with query images enough (15 a class
            or more); the first 50 of `episodes` if not given.
        layers: names of modules in order, the head last, that hold all that adapts; None takes the children of a
            Sequential with parameters.
        norm: whose statistics normalise the query set in the accuracies, see `innerloop.norm`.
        at_once: tasks in memory at once, see `predict`.

    Raises:
        ValueError: too few query images to compare layers by CCA, a layer or the inner loop does not fit the model, the
            targets are no labels, or `episodes` come from a generator.
    """
    names = layers_of(model) if layers is None else list(layers)
    _check_layers(model, inner, names)
    _check_again(episodes)
    first = next(iter(episodes), None)
    if first is None:
        raise ValueError(_EMPTY)
    if not has_labels(first):
        raise ValueError(
            f"a probe counts right answers and needs labels, got targets of {first.query_y.dtype}: for values, use "
            "`freezing` and `change` with their loss"
        )
    some = islice(_tasks(episodes), _COMPARED) if compared is None else _tasks(compared)
    tasks = (Episodes(*(part.unsqueeze(0) for part in task)) for task in some)
    moved = change(model, tasks, inner, layers=names)
    scores = freezing(model, episodes, inner, layers=names, norm=norm, at_once=at_once)
    if scores[0].values.shape[1] < 2:
        raise ValueError("one episode says nothing about others: give a probe two or more, better 100")
    way = int(first.support_y.max()) + 1
    nil = evaluate(NIL(way=way, head=names[-1]), model, episodes, norm=norm, at_once=at_once)
    return Probe(names, scores, nil, moved, way)


@dataclass(frozen=True)
class Resemblance:
    """How alike two networks see the same tasks: "pre-post" is the first before, the second after it adapted."""

    cca: dict[str, ByLayer]
    cka: dict[str, ByLayer]
    tasks: int


def resemblance(
    first: nn.Module,
    second: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop | None = None,
    *,
    layers: Sequence[str] | None = None,
    loss: Loss = F.cross_entropy,
) -> Resemblance:
    """Compare the layers of two networks on the query images of the same tasks, each layer with its namesake.

    With `inner`, also after each network has adapted to the task; without, "pre-pre" alone.
    """
    names = layers_of(first) if layers is None else list(layers)
    times = ("pre", "post") if inner else ("pre",)
    pairs = {f"{a}-{b}": (a, b) for a, b in product(times, times)}
    ccas: dict[str, list[ByLayer]] = {when: [] for when in pairs}
    ckas: dict[str, list[ByLayer]] = {when: [] for when in pairs}
    for support_x, support_y, query_x, _ in _tasks(episodes):
        seen: list[dict[str, Mapping[str, Tensor]]] = []
        for network in (first, second):
            states = {"pre": _state(network)}
            with _resting(network):
                if inner:
                    states["post"] = adapt(network, support_x, support_y, inner, loss=loss)
                seen.append({time: activations(network, query_x, names, state) for time, state in states.items()})
        for when, (a, b) in pairs.items():
            found = {name: _likeness(name, seen[0][a][name], seen[1][b][name]) for name in names}
            ccas[when].append({name: float(cca.value) for name, (cca, _) in found.items()})
            ckas[when].append({name: float(cka.value) for name, (_, cka) in found.items()})
    cca, cka = ({when: _mean(rows) for when, rows in kind.items()} for kind in (ccas, ckas))
    return Resemblance(cca, cka, len(ccas["pre-pre"]))


def _check_layers(model: nn.Module, inner: InnerLoop, layers: Sequence[str]) -> None:
    if len(layers) < 2:
        raise ValueError(f"a probe compares a body with a head, and there is only {', '.join(layers) or 'no layer'}")
    if loose := chosen(model, freeze(inner, *layers).adapt):
        raise ValueError(
            f"{', '.join(loose)} would adapt even with {', '.join(layers)} frozen: name all layers that adapt in "
            "`layers`, or take the others out of the inner loop's `adapt`"
        )


def _check_again(episodes: Iterable[Episodes]) -> None:
    if isinstance(episodes, Iterator):
        raise ValueError("episodes are gone through once for every layer, a generator only once: pass list(episodes)")


@contextmanager
def _resting(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode, as in `evaluate`: dropout rests."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _likeness(layer: str, one: Tensor, other: Tensor) -> tuple[CCA, CKA]:
    try:
        return mean_cca(fold(one), fold(other)), linear_cka(fold(one), fold(other))
    except ValueError as error:
        raise ValueError(f"{layer} cannot be compared on {len(one)} query images a task: {error}") from error


def _tasks(episodes: Iterable[Episodes]) -> Iterable[tuple[Tensor, ...]]:
    return (task for batch in episodes for task in zip(*batch, strict=True))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}


def _mean(rows: list[ByLayer]) -> ByLayer:
    if not rows:
        raise ValueError(_EMPTY)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
