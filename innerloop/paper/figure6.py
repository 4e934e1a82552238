"""Figure 6: the inner loop moves the weights of the head, and hardly those of other layers.

The trainings of Table 1, at their first weights and at the checkpoints that they keep.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Claim, Figure, Panel, Panels
from innerloop.experiments.few_shot import Movement
from innerloop.experiments.panel import by_layer
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper.scales import MINI, training
from innerloop.reuse.adaptation import Change

_CHECKPOINTS = 4


class Asked(NamedTuple):
    """The name of a question."""

    problem: str
    at: int  # iterations
    seed: int


def questions(scale: Scale) -> dict[Hashable, Question]:
    """The change at the first weights and at every kept checkpoint."""
    found: dict[Hashable, Question] = {}
    for problem, i, seed in product(MINI, range(_CHECKPOINTS), range(scale.seeds)):
        run = training(scale, problem, "maml", seed)
        found[Asked(problem, i * run.schedule.keep, seed)] = Movement(
            run, scale.counts["compared"], at=i * run.schedule.keep
        )
    return found


def panels(answers: Mapping[Any, Change]) -> tuple[Panel, ...]:
    """A panel a problem, with bars by layer and iteration, averaged over seeds."""
    found: list[Panel] = []
    for problem in MINI:
        here = {asked: answer for asked, answer in answers.items() if asked.problem == problem}
        series = tuple(
            by_layer(f"iteration {at}", [answer.distance for asked, answer in here.items() if asked.at == at])
            for at in sorted({asked.at for asked in here})
        )
        if series:
            found.append(Panel(problem, "layer", "Euclidean distance", series, kind="bars"))
    return tuple(found)


def _head_moves_most(panels: Panels) -> bool:
    for problem in MINI:
        lines = [series for label, series in panels[problem].items() if label != "iteration 0"]
        if len(lines) < _CHECKPOINTS - 1:
            raise KeyError(problem)
        if any(max(line.y[:-1]) >= line.y[-1] / 2 for line in lines):
            return False
    return True


FIGURE = Figure(
    name="figure6",
    title="Euclidean distance of the weights before and after adaptation",
    about="The norm of the difference of all adapting weights of a layer (its norm does not adapt), after the 10 inner "
    "steps of the test, averaged over tasks and seeds.",
    published="Very quickly after the start of training, all layers except for the last have small distances.",
    asks=questions,
    panels=panels,
    claims=(
        Claim(
            "Very quickly after the start of training, all layers except for the last layer have small Euclidean "
            "distance difference before and after finetuning (Appendix B.3).",
            "every convolutional layer moves less than half as far as the head, at each kept checkpoint of both "
            "problems",
            _head_moves_most,
        ),
    ),
)
