"""Made-up answers for which everything that the paper claims holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import msgspec

from innerloop.experiments.exhibits import Exhibit, Figure
from innerloop.experiments.few_shot import Accuracy, Curves, Learning, Likeness, Movement, Scored
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper import STUDY
from innerloop.paper.scales import SCALES
from innerloop.reuse.adaptation import Change
from innerloop.reuse.networks import Resemblance

LAYERS = ("block1", "block2", "block3", "block4", "head")
WHENS = ("pre-pre", "pre-post", "post-pre", "post-post")
EXHIBITS: dict[str, Exhibit] = {exhibit.name: exhibit for exhibit in STUDY.exhibits}


def scale_of(seeds: int) -> Scale:
    return replace(SCALES["small"], seeds=seeds)


def accuracy_of(value: float, interval: float | None = 0.01) -> Scored:
    return Scored(value, interval, 600, "query")


def alike(**kinds: dict[str, dict[str, float]]) -> Resemblance:
    return Resemblance(**{"cca": {}, "cka": {}, "permuted": {}, "points": {}, "tasks": 1} | kinds)


def altered(answer: Any, **changes: Any) -> Any:
    change = dataclasses.replace if dataclasses.is_dataclass(answer) else msgspec.structs.replace
    return change(answer, **changes)


def answer_to(question: Question) -> Any:
    match question:
        case Accuracy():
            return accuracy_of(0.6 - 0.005 * question.frozen)
        case Movement():
            return Change(layers(0.95, 0.3), layers(0.97, 0.4), layers(0.1, 1.0), {}, {}, 1)
        case Likeness(first, second):
            start = 0.3 + 0.05 * first.problem.shot + 0.01 * first.seed + 0.002 * second.seed
            values = {layer: start + 0.1 * i for i, layer in enumerate(LAYERS)}
            return alike(**{kind: {when: dict(values) for when in WHENS} for kind in ("cca", "cka")})
        case Curves(run):
            top = 0.62 if run.inner.algorithm == "anil" else 0.6
            return Learning([5, 10], [1.5, 1.1], [0.3, top], [2, 4, 6, 8], [0.2, 0.4, 0.5, top])
    raise AssertionError(question)


def layers(body: float, head: float) -> dict[str, float]:
    return dict.fromkeys(LAYERS[:-1], body) | {"head": head}


def answers_to(figure: Figure, scale: Scale, changed: Callable[[Any, Any], Any] | None = None) -> dict[Hashable, Any]:
    """An answer to every question of a figure; `changed` may give another one, or None for none."""
    found = {}
    for name, question in figure.asks(scale).items():
        answer = answer_to(question)
        answer = changed(question, answer) if changed else answer
        if answer is not None:
            found[name] = answer
    return found
