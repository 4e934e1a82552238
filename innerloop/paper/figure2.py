"""Figure 2: the inner loop hardly changes what the layers of the body represent, and changes the head much.

The trainings of Table 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

from innerloop.experiments.exhibits import Claim, Figure, Panel, Panels
from innerloop.experiments.few_shot import Movement
from innerloop.experiments.panel import body_stays, by_layer
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper.scales import MINI, training
from innerloop.reuse.adaptation import Change

KINDS = {"CCA before and after adaptation": "cca", "CKA before and after adaptation": "cka"}
_CCA, _CKA = KINDS


def questions(scale: Scale) -> dict[Hashable, Question]:
    """By problem and seed."""
    return {
        (problem, seed): Movement(training(scale, problem, "maml", seed), scale.counts["compared"])
        for problem, seed in product(MINI, range(scale.seeds))
    }


def panels(answers: Mapping[Any, Change]) -> tuple[Panel, ...]:
    """A panel for CCA, one for CKA; a line a problem, averaged over seeds."""

    def lines(kind: str) -> tuple[list[dict[str, float]], ...]:
        return tuple([getattr(a, kind) for (asked, _), a in answers.items() if asked == problem] for problem in MINI)

    return tuple(
        Panel(
            title,
            "layer",
            "similarity",
            tuple(by_layer(problem, found) for problem, found in zip(MINI, lines(kind), strict=True) if found),
            y_range=(0, 1.02),
        )
        for title, kind in KINDS.items()
    )


FIGURE = Figure(
    name="figure2",
    title="Similarity of every layer before and after adaptation",
    about="Mean CCA and linear CKA between the outputs of a MAML network's layer before and after the inner loop of "
    "the test (10 steps), "
    "on 15 query images a class of a test task, channels as neurons and space folded into data points; averaged over "
    "tasks and seeds.",
    published="All convolutional layers above 0.9, the head below 0.5 in CCA; the same pattern in CKA.",
    asks=questions,
    panels=panels,
    claims=(
        Claim(
            "Representations in the body of the network are highly similar, with CCA similarity scores of > 0.9 "
            "(section 3.2.2).",
            "every convolutional layer's mean CCA is at least 0.9, for both problems",
            lambda panels: body_stays(panels, _CCA, MINI, 0.9),
        ),
        Claim(
            "The head of the network has a CCA similarity of less than 0.5 (section 3.2.2).",
            "the head's mean CCA is below 0.5, for both problems",
            lambda panels: all(panels[_CCA][line].y[-1] < 0.5 for line in MINI),
        ),
        Claim(
            "The head of the network must change significantly during adaptation, and this is reflected in the much "
            "lower CCA/CKA similarity (Figure 2).",
            "the head's mean is at least 0.2 below that of every convolutional layer, for both problems, CCA and CKA",
            lambda panels: all(
                min(panels[kind][line].y[:-1]) - panels[kind][line].y[-1] >= 0.2 for kind in KINDS for line in MINI
            ),
        ),
        Claim(
            "CKA illustrates the same pattern (section 3.2.2).",
            "every convolutional layer's mean CKA is at least 0.9 and above the head's, for both problems",
            lambda panels: _same_pattern(panels),
        ),
    ),
)


def _same_pattern(panels: Panels) -> bool:
    lines = [panels[_CKA][line].y for line in MINI]
    return body_stays(panels, _CKA, MINI, 0.9) and all(min(y[:-1]) > y[-1] for y in lines)
