"""Figure 3: the body is reused from early in training (mini-ImageNet 5-way 5-shot).

The trainings of Table 1, at the checkpoints that they keep: after a third, two thirds and all of their iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Claim, Figure, Panel, Panels, Series, Stated
from innerloop.experiments.few_shot import Accuracy, Movement, Scored
from innerloop.experiments.panel import body_stays, by_layer, mean_line
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper.scales import MINI5, training
from innerloop.paper.table1 import FROZEN

ACCURACY, CCA = "Accuracy with layers frozen", "CCA before and after adaptation"
_CHECKPOINTS = 3


class Asked(NamedTuple):
    """The name of a question."""

    what: str  # accuracy or change
    at: int  # iterations
    seed: int
    frozen: int = 0


def over_training(scale: Scale, problem: str) -> dict[Hashable, Question]:
    """Accuracy with every number of frozen layers, and the change of every layer, at every checkpoint."""
    found: dict[Hashable, Question] = {}
    for i, seed in product(range(1, _CHECKPOINTS + 1), range(scale.seeds)):
        run = training(scale, problem, "maml", seed)
        at = i * run.schedule.keep
        found[Asked("change", at, seed)] = Movement(run, scale.counts["compared"], at=at)
        for frozen in range(len(FROZEN)):
            found[Asked("accuracy", at, seed, frozen)] = Accuracy(
                run, frozen, at=at, episodes=scale.counts["checkpoint"]
            )
    return found


def panels(answers: Mapping[Any, Any]) -> tuple[Panel, ...]:
    """A line a checkpoint, averaged over the seeds that have all of it."""
    accuracy: list[Series] = []
    change: list[Series] = []
    for at in sorted({asked.at for asked in answers}):
        seeds = sorted({asked.seed for asked in answers if asked.at == at})
        rows = [[answers.get(Asked("accuracy", at, seed, k)) for k in range(len(FROZEN))] for seed in seeds]
        whole = [[answer for answer in row if answer] for row in rows if all(row)]
        moved = [answers[asked].cca for asked in answers if asked.what == "change" and asked.at == at]
        if whole:
            accuracy.append(_accuracies(f"iteration {at}", whole))
        if moved:
            change.append(by_layer(f"iteration {at}", moved))
    return (
        Panel(ACCURACY, "layers frozen in the inner loop", "test accuracy %", tuple(accuracy)),
        Panel(CCA, "layer", "CCA similarity", tuple(change), y_range=(0, 1.02)),
    )


def _accuracies(label: str, seeds: list[list[Scored]]) -> Series:
    """In %; with one seed the 95 % intervals over episodes stand in for the deviation over seeds."""
    line = mean_line(label, FROZEN, [[100 * answer.accuracy for answer in row] for row in seeds])
    return line if len(seeds) > 1 else replace(line, spread=tuple(100 * (answer.interval or 0) for answer in seeds[0]))


def costs_little(panels: Panels) -> bool:
    """Whether freezing the whole body costs at most 3 points at every checkpoint."""
    lines = _all(panels[ACCURACY])
    return all(line.y[0] - line.y[-1] <= 3 for line in lines)


def body_is_reused(panels: Panels) -> bool:
    """Whether every layer of the body keeps a CCA of 0.9 at every checkpoint."""
    return body_stays(panels, CCA, [line.label for line in _all(panels[CCA])], 0.9)


def _all(lines: dict[str, Series]) -> list[Series]:
    if len(lines) < _CHECKPOINTS:
        raise KeyError(f"{len(lines)} of {_CHECKPOINTS} checkpoints")
    return list(lines.values())


def _stated(*pairs: tuple[float, float]) -> tuple[Stated, ...]:
    """Accuracies with no layer and with the whole body frozen, checkpoint by checkpoint."""

    def reads(checkpoint: int, frozen: int) -> Callable[[Panels], float]:
        return lambda panels: _all(panels[ACCURACY])[checkpoint].y[frozen]

    thirds = ("a third", "two thirds", "all")
    return tuple(
        Stated(f"after {thirds[i]} of the iterations, {what} frozen", number, reads(i, frozen))
        for i, pair in enumerate(pairs)
        for what, frozen, number in zip(("none", "1,2,3,4"), (0, -1), pair, strict=True)
    )


_CLAIMS = (
    Claim(
        "Test accuracy remains approximately the same when freezing contiguous subsets of layers, from early in "
        "training (section 3.2.3).",
        "freezing all four convolutional layers costs at most 3 points at each of the three checkpoints (the paper's "
        "largest loss is 2.1)",
        costs_little,
    ),
    Claim(
        "CCA similarity between activations pre and post inner loop update is very high for the body, from early in "
        "training (section 3.2.3).",
        "every convolutional layer's mean CCA is at least 0.9 at each of the three checkpoints",
        body_is_reused,
    ),
)
ABOUT = (
    "Accuracy with the first layers frozen in the test, and CCA as in Figure 2, after a third, two thirds and all of "
    "the iterations: 10,000, 20,000 and 30,000 at the paper's scale. An accuracy is over 600 episodes there, and over "
    "150 at small scale. ± and bars are standard deviations over seeds; with one seed, an accuracy's 95 % interval "
    "over episodes."
)

FIGURE = Figure(
    name="figure3",
    title="Freezing and similarity over training, 5-way 5-shot",
    about=ABOUT,
    published="CCA of the convolutional layers near 1; the accuracies below.",
    asks=lambda scale: over_training(scale, MINI5),
    panels=panels,
    claims=_CLAIMS,
    stated=_stated((61.3, 59.7), (63.0, 61.3), (63.1, 61.0)),
)
