"""Figure 5: MAML and ANIL learn alike (mini-ImageNet 5-way 5-shot).

The training curves of the runs of Table 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Claim, Figure, Panel, Panels, Series
from innerloop.experiments.few_shot import Curves, Learning
from innerloop.experiments.panel import curve, mean_line, validation
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper.scales import MINI5, Regime, training

REGIMES: dict[str, Regime] = {"MAML": "maml", "ANIL": "anil"}


class Asked(NamedTuple):
    """The name of a question."""

    problem: str
    regime: str  # MAML or ANIL
    seed: int


def learning(scale: Scale, *problems: str) -> dict[Hashable, Question]:
    """The curves of both, for every seed."""
    return {
        Asked(problem, name, seed): Curves(training(scale, problem, regime, seed))
        for problem, (name, regime), seed in product(problems, REGIMES.items(), range(scale.seeds))
    }


def panels(answers: Mapping[Any, Learning]) -> tuple[Panel, ...]:
    """For every problem loss and accuracy; lines averaged over seeds."""
    found: list[Panel] = []
    for problem in dict.fromkeys(asked.problem for asked in answers):
        losses: list[Series] = []
        accuracies: list[Series] = []
        for name in REGIMES:
            of = [answer for asked, answer in answers.items() if asked.problem == problem and asked.regime == name]
            if of:
                steps = of[0].iteration
                losses.append(curve(f"{name} training", steps, [answer.loss for answer in of]))
                trained = [[100 * value for value in answer.accuracy] for answer in of]
                accuracies.append(curve(f"{name} training", steps, trained))
                accuracies.append(mean_line(f"{name} validation", of[0].val_iteration, list(map(validation, of))))
        found.append(Panel(f"{problem}: loss", "training iteration", "query loss", tuple(losses)))
        found.append(Panel(f"{problem}: accuracy", "training iteration", "query accuracy %", tuple(accuracies)))
    return tuple(found)


def alike(*problems: str) -> Claim:
    """That MAML and ANIL learn alike on these problems."""

    def holds(panels: Panels) -> bool:
        return all(_near(panels[f"{problem}: loss"], panels[f"{problem}: accuracy"]) for problem in problems)

    return Claim(
        "Loss and accuracy for both algorithms look very similar throughout training (section 4, Appendix C.2).",
        "averaged over all of training, MAML and ANIL are at most 5 points apart in training and in validation "
        "accuracy, and their training losses differ by at most a tenth",
        holds,
    )


def _near(losses: dict[str, Series], accuracies: dict[str, Series]) -> bool:
    apart, loss = _apart(losses, "training"), fmean(losses["MAML training"].y)
    return max(_apart(accuracies, "training"), _apart(accuracies, "validation")) <= 5 and apart <= loss / 10


def _apart(lines: dict[str, Series], what: str) -> float:
    maml, anil = lines[f"MAML {what}"].y, lines[f"ANIL {what}"].y
    return fmean(abs(a - b) for a, b in zip(maml, anil, strict=True))


ABOUT = (
    "Loss and accuracy on the query sets of the training episodes, averaged over blocks of iterations, and validation "
    "accuracy; lines are means over seeds, bands their standard deviations."
)

FIGURE = Figure(
    name="figure5",
    title="Learning curves of MAML and ANIL, mini-ImageNet 5-way 5-shot",
    about=ABOUT,
    published="The curves of MAML and ANIL nearly coincide.",
    asks=lambda scale: learning(scale, MINI5),
    panels=panels,
    claims=(alike(MINI5),),
)
