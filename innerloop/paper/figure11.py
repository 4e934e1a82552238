"""Figure 11: a network of ANIL is as like one of MAML as two networks of either are, layer by layer.

The trainings of Table 3.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Claim, Figure, Panel, Panels, Series
from innerloop.experiments.panel import BODY, fit
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.paper.pairs import pair
from innerloop.paper.scales import MINI, Regime
from innerloop.reuse.networks import Resemblance

_PAIRS: tuple[tuple[Regime, Regime], ...] = (("maml", "maml"), ("anil", "anil"), ("anil", "maml"))
AGAINST = {"(MAML, MAML) vs (ANIL, MAML)": ("maml", "maml"), "(ANIL, ANIL) vs (ANIL, MAML)": ("anil", "anil")}


class Asked(NamedTuple):
    """The name of a question."""

    problem: str
    first: str
    second: str
    repeat: int


def questions(scale: Scale) -> dict[Hashable, Question]:
    """Pairs of seeds of MAML, of ANIL, and of one of each, for both problems."""
    found: dict[Hashable, Question] = {}
    for problem, (first, second), repeat in product(MINI, _PAIRS, range(scale.seeds)):
        question = pair(scale, problem, first, second, repeat)
        if question is not None:
            found[Asked(problem, first, second, repeat)] = question
    return found


def panels(answers: Mapping[Any, Resemblance]) -> tuple[Panel, ...]:
    """A point for every layer of the body and every pair that stands for a pair of the same seeds."""

    def points(problem: str, of: tuple[str, str]) -> Series:
        both = [
            (answers[Asked(problem, *of, repeat)].cca["pre-pre"], answers[mixed].cca["pre-pre"])
            for repeat in sorted({asked.repeat for asked in answers})
            if Asked(problem, *of, repeat) in answers and (mixed := Asked(problem, "anil", "maml", repeat)) in answers
        ]
        x = tuple(same[layer] for same, _ in both for layer in BODY)
        return Series(problem, x, tuple(mixed[layer] for _, mixed in both for layer in BODY))

    problems = [problem for problem in MINI if any(asked.problem == problem for asked in answers)]
    return tuple(
        Panel(
            title,
            f"CCA ({of[0].upper()} 1, {of[1].upper()} 2)",
            "CCA (ANIL 1, MAML 2)",
            tuple(series for problem in problems if (series := points(problem, of)).x),
            kind="against",
        )
        for title, of in AGAINST.items()
    )


def _strong(panels: Panels) -> bool:
    found = []
    for title in AGAINST:
        series = [panels[title][problem] for problem in MINI]
        found.append(fit([x for one in series for x in one.x], [y for one in series for y in one.y]))
    return all(line.slope > 0 and line.r2 >= 0.8 for line in found)


FIGURE = Figure(
    name="figure11",
    title="CCA between MAML and ANIL against CCA between seeds of one of them",
    about="Mean CCA of the same layer in two networks of different seeds, on the query images of the same test tasks, "
    "before adaptation; one point a layer of the body, pair of seeds and problem.",
    published="A strong correlation in both panels.",
    asks=questions,
    panels=panels,
    claims=(
        Claim(
            "We observe a strong correlation of similarity scores in both (i) and (ii) (Figure 11).",
            "in both panels the fitted line rises and R² is at least 0.8",
            _strong,
        ),
    ),
)
