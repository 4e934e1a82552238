"""Made-up answers for which everything that the paper claims holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from innerloop.experiments.exhibits import Answer, Figure
from innerloop.experiments.questions import Accuracy, Change, Curves, Measure, Resemblance
from innerloop.paper.scales import SCALES, Scale

LAYERS = ("block1", "block2", "block3", "block4", "head")
WHENS = ("pre-pre", "pre-post", "post-pre", "post-post")


def scale_of(seeds: int) -> Scale:
    return replace(SCALES["small"], seeds=seeds)


def answer_to(question: Measure) -> dict[str, Any]:
    match question:
        case Accuracy():
            return {"accuracy": 0.6 - 0.005 * question.frozen, "interval": 0.01}
        case Change():
            return {"cca": layers(0.95, 0.3), "cka": layers(0.97, 0.4), "distance": layers(0.1, 1.0)}
        case Resemblance(first, second):
            start = 0.3 + 0.05 * first.problem.shot + 0.01 * first.seed + 0.002 * second.seed
            values = {layer: start + 0.1 * i for i, layer in enumerate(LAYERS)}
            return {kind: {when: dict(values) for when in WHENS} for kind in ("cca", "cka")}
        case Curves(run):
            top = 0.62 if run.inner.algorithm == "anil" else 0.6
            return {"iteration": [5, 10], "loss": [1.5, 1.1], "accuracy": [0.3, top]} | {
                "val_iteration": [2, 4, 6, 8], "val_accuracy": [0.2, 0.4, 0.5, top]}  # fmt: skip
    raise AssertionError(question)


def layers(body: float, head: float) -> dict[str, float]:
    return dict.fromkeys(LAYERS[:-1], body) | {"head": head}


def answers_to(
    figure: Figure, scale: Scale, changed: Callable[[Any, dict[str, Any]], Answer | None] | None = None
) -> dict[Hashable, Answer]:
    """An answer to every question of a figure; `changed` may give another one, or None for none."""
    found = {}
    for name, question in figure.questions(scale).items():
        answer = answer_to(question)
        answer = changed(question, answer) if changed else answer
        if answer is not None:
            found[name] = answer
    return found
