"""Does adapting the body pay? The paper's question for a pretrained network on someone's own images, stage by stage."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.algorithms import freeze
from innerloop.evaluation import Score, evaluate
from innerloop.inner import InnerLoop, adapt
from innerloop.params import chosen, layers_of, resting
from innerloop.predictors import NIL
from innerloop.reuse.assignments import assignments, spread_of
from innerloop.reuse.likeness import EMPTY, ByLayer, check_again, tasks_of
from innerloop.similarity import activations, class_cosines, fold, linear_cka, mean_cca, procrustes
from innerloop.similarity.form import Form
from innerloop.similarity.moments import gathered
from innerloop.tasks import Episodes

_COMPARED = 20  # tasks


class Seen(NamedTuple):
    """What a network's layers put out for the query images of one task."""

    outputs: dict[str, Tensor]  # by layer, (q, ...)
    labels: Tensor  # (q,)


@dataclass(frozen=True)
class Depth:
    """How an inner loop does that may change the last layers alone."""

    adapts: tuple[str, ...]  # the layers that it may change, the head last
    score: Score
    gain: tuple[float, float]  # accuracy against the frozen body, and half the 95 % interval, paired by episode
    nil: float  # accuracy of NIL on the features after adaptation
    likeness: dict[str, ByLayer]  # "cca", "cka" and "procrustes" of each layer of the body before and after adaptation
    cosines: dict[str, tuple[float, float]]  # of each, after adaptation: within a class, and between classes
    seconds: float  # a task, adapting and predicting
    held: int  # bytes that autograd keeps for one inner step


@dataclass(frozen=True)
class Pays:
    """Whether an inner loop gains by changing the body, see `pays`."""

    depths: list[Depth]  # the head alone, the last layer of the body too, ..., all
    nil: float  # accuracy of NIL before adaptation
    cosines: dict[str, tuple[float, float]]  # of each layer of the body before adaptation
    spread: tuple[float, float]  # accuracy between assignments of classes to outputs: head alone, and all

    @property
    def best(self) -> Depth:
        """The most accurate that changes more than the head."""
        return max(self.depths[1:], key=lambda depth: depth.score.mean)

    @property
    def verdict(self) -> str:
        """One sentence with its numbers."""
        frozen, best = self.depths[0], self.best
        gain, half = (100 * value for value in best.gain)
        layers = ", ".join(best.adapts[:-1])
        numbers = (
            f"{frozen.score.mean:.1%} with the head alone, {best.score.mean:.1%} with {layers} adapting too, "
            f"the best of {len(self.depths) - 1} depths ({gain:+.1f} ± {half:.1f} points), "
            f"at {best.seconds / frozen.seconds:.1f} times the time a task; "
            f"NIL has {self.nil:.1%} before adaptation and {best.nil:.1%} after"
        )
        answer = "Adapting the body pays" if gain > half else "Adapting the body does not pay here"
        return f"{answer}: {numbers}."


def pays(
    model: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop,
    *,
    layers: Sequence[str] | None = None,
    neurons: int | None = None,
    chunk_size: int | None = 1,
) -> Pays:
    """Ask of a pretrained network on one's own images whether to adapt the head alone, or how much of the body.

    `inner` is run once for each depth, with all below that depth frozen. Layers are compared on the first 20 tasks.

    Args:
        model: a `backbone`, or any module; of one that is no named Sequential, pass `layers`.
        episodes: two classification tasks or more, gone through once for every depth.
        inner: an inner loop that may change all layers (maml).
        layers: names of modules in order, the head last.
        neurons: their axis in the layers' outputs, `innerloop.models.input_of(model).neurons` of a backbone.
        chunk_size: tasks that run as one batch, see `predict`.

    Raises:
        ValueError: there are less than two episodes, they come from a generator, or a layer does not fit.
    """
    names = layers_of(model) if layers is None else list(layers)
    check_again(episodes)
    some = [Episodes(*(part.unsqueeze(0) for part in task)) for task in islice(tasks_of(episodes), _COMPARED)]
    if len(some) < 2:
        raise ValueError(EMPTY if not some else "one episode says nothing about others: give two or more, better 100")
    body, head = names[:-1], names[-1]
    before = [_seen(model, task, body) for task in some]

    def at_depth(count: int, frozen: Score | None) -> Depth:
        rule = freeze(inner, *body[: len(body) - count])
        begun = time.perf_counter()
        score = evaluate(model, episodes, rule, chunk_size=chunk_size)
        seconds = (time.perf_counter() - begun) / score.values.shape[1]
        adapted = [_adapted(model, task, rule) for task in some]
        after = [_seen(network, task, body) for network, task in zip(adapted, some, strict=True)]
        return Depth(
            tuple(names[len(body) - count :]),
            score,
            _paired(score, frozen or score),
            fmean(_nil(network, task, head) for network, task in zip(adapted, some, strict=True)),
            _likeness(before, after, neurons),
            _cosines(after),
            seconds,
            _held(model, some[0], rule),
        )

    depths = [at_depth(0, None)]
    depths += [at_depth(count, depths[0].score) for count in range(1, len(names))]
    head_alone, whole = (
        float(spread_of(assignments(model, some, rule)).mean()) for rule in (freeze(inner, *body), inner)
    )
    nil = fmean(_nil(model, task, head) for task in some)
    return Pays(depths, nil, _cosines(before), (head_alone, whole))


def _adapted(model: nn.Module, task: Episodes, rule: InnerLoop) -> nn.Module:
    with resting(model):
        state = adapt(model, task.support_x[0], task.support_y[0], rule)
    network = copy.deepcopy(model).eval()
    network.load_state_dict(state)
    return network


def _seen(model: nn.Module, task: Episodes, layers: Sequence[str]) -> Seen:
    """Outputs of each layer for the query images, as they are, and the labels."""
    with resting(model):
        return Seen(activations(model, task.query_x[0], layers), task.query_y[0])


def _likeness(before: list[Seen], after: list[Seen], neurons: int | None) -> dict[str, ByLayer]:
    """Means over tasks; positions are data points. CCA is not a number where they are too few for it."""

    def of_layer(name: str) -> list[float]:
        rows = []
        for one, other in zip(before, after, strict=True):
            axis = neurons if one.outputs[name].ndim > 2 else None
            form = gathered(fold(one.outputs[name], axis), fold(other.outputs[name], axis))
            rows.append((_cca(form), float(linear_cka(form).value), float(procrustes(form).value)))
        return [fmean(column) for column in zip(*rows, strict=True)]

    found = {name: of_layer(name) for name in before[0].outputs}
    return {kind: {name: row[i] for name, row in found.items()} for i, kind in enumerate(("cca", "cka", "procrustes"))}


def _cca(form: Form) -> float:
    try:
        return float(mean_cca(form).value)
    except ValueError:
        return math.nan


def _cosines(seen: list[Seen]) -> dict[str, tuple[float, float]]:
    """Mean cosine of the outputs for two images of one class, and of two classes."""

    def of_layer(name: str) -> tuple[float, float]:
        found = [class_cosines(each.outputs[name].flatten(1), each.labels) for each in seen]
        return fmean(float(each.within) for each in found), fmean(float(each.between) for each in found)

    return {name: of_layer(name) for name in seen[0].outputs}


def _nil(model: nn.Module, task: Episodes, head: str) -> float:
    return evaluate(model, [task], NIL(head=head), chunk_size=1).mean


def _paired(score: Score, other: Score) -> tuple[float, float]:
    gap = score.values[-1] - other.values[-1]
    return float(gap.mean()), float(1.96 * gap.std() / len(gap) ** 0.5)


def _held(model: nn.Module, task: Episodes, rule: InnerLoop) -> int:
    """Bytes that autograd keeps of one step on the support set, each storage once, without the parameters."""
    own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    adapting = set(chosen(model, rule.adapt))
    wants = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        for name, p in model.named_parameters():
            p.requires_grad_(name in adapting)
        with resting(model), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = rule.loss(model(task.support_x[0]), task.support_y[0])
    finally:
        for name, p in model.named_parameters():
            p.requires_grad_(wants[name])
    del loss
    return sum(kept.values())
