"""Figure 7: across seeds, a layer after adaptation is as like another network's as it was before (CCA).

The trainings of Table 1, at least two seeds.
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
from innerloop.paper.scales import MINI
from innerloop.reuse.networks import Resemblance

AGAINST = {"(Pre, Pre) vs (Pre, Post)": "pre-post", "(Pre, Pre) vs (Post, Pre)": "post-pre",
           "(Pre, Pre) vs (Post, Post)": "post-post"}  # fmt: skip


class Asked(NamedTuple):
    """The name of a question."""

    problem: str
    repeat: int


def questions(scale: Scale) -> dict[Hashable, Question]:
    """Every pair of seeds of MAML, for both problems."""
    asked = ((Asked(*key), pair(scale, key[0], "maml", "maml", key[1])) for key in product(MINI, range(scale.seeds)))
    return {key: question for key, question in asked if question is not None}


def across_seeds(answers: Mapping[Any, Resemblance], kind: str) -> tuple[Panel, ...]:
    """Three panels; a point for every layer of the body and every pair of seeds."""

    def points(problem: str, when: str) -> Series:
        found = [getattr(answer, kind) for asked, answer in answers.items() if asked.problem == problem]
        x = tuple(answer["pre-pre"][layer] for answer in found for layer in BODY)
        return Series(problem, x, tuple(answer[when][layer] for answer in found for layer in BODY))

    name = kind.upper()
    problems = [problem for problem in MINI if any(asked.problem == problem for asked in answers)]
    return tuple(
        Panel(
            title,
            f"{name} (Pre 1, Pre 2)",
            f"{name} ({when.title().replace('-', ' 1, ')} 2)",
            tuple(points(problem, when) for problem in problems),
            kind="against",
        )
        for title, when in AGAINST.items()
    )


def near_the_diagonal(panels: Panels, slope: float, r2: float) -> bool:
    """Whether in every panel the fitted line has a slope within `slope` of 1 and explains `r2` of the variance."""
    lines = []
    for title in AGAINST:
        series = [panels[title][label] for label in MINI]
        lines.append(fit([x for one in series for x in one.x], [y for one in series for y in one.y]))
    return all(abs(line.slope - 1) <= slope and line.r2 >= r2 for line in lines)


ABOUT = (
    "Similarity of the same layer in two MAML networks of different seeds, on the query images of the same test tasks, "
    "before (pre) and after (post) each has adapted to the task; one point a layer of the body, pair of seeds and "
    "problem."
)

FIGURE = Figure(
    name="figure7",
    title="CCA across seeds, before and after adaptation",
    about=ABOUT,
    published="The lines of best fit are almost exactly y = x, with R² near 1, between CCA 0.35 and 0.70.",
    asks=questions,
    panels=lambda answers: across_seeds(answers, "cca"),
    claims=(
        Claim(
            "The line of best fit is almost exactly y = x, and R² is about 1 for all three plots (Appendix B.4).",
            "in each panel the slope is within 0.1 of 1 and R² is at least 0.9",
            lambda panels: near_the_diagonal(panels, 0.1, 0.9),
        ),
    ),
)
