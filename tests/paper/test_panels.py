"""What is drawn of the answers that there are: pairs of networks, lines, points."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean, stdev

import numpy as np
import pytest
from paper_like import EXHIBITS, LAYERS, alike, altered, answers_to, scale_of

from innerloop.experiments.exhibits import Figure, Panel, Panels, Series
from innerloop.experiments.few_shot import Likeness, Movement
from innerloop.experiments.panel import curve, fit, mean_line
from innerloop.experiments.questions import Question
from innerloop.paper.pairs import pair
from innerloop.paper.scales import MINI1
from innerloop.reuse.adaptation import Change

FIGURES = [exhibit for exhibit in EXHIBITS.values() if isinstance(exhibit, Figure)]


def figure(name: str) -> Figure:
    exhibit = EXHIBITS[name]
    assert isinstance(exhibit, Figure)
    return exhibit


# Pairs and lines


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_a_pair_of_seeds_is_asked_for_once(seeds):
    scale = scale_of(seeds)
    same, mixed, more = (
        [question for repeat in range(20) if (question := pair(of, MINI1, first, "maml", repeat))]
        for of, first in ((scale, "maml"), (scale, "anil"), (scale_of(seeds + 1), "maml"))
    )
    pairs, orders, wider = (
        [(question.first.seed, question.second.seed) for question in questions] for questions in (same, mixed, more)
    )
    assert set(pairs) == set(combinations(range(seeds), 2)), (
        "one with the other and the other with the one are the same"
    )
    assert len(pairs) == len(set(pairs))
    assert orders == pairs, "so that rows of a table and points of Figure 11 stand for the same seeds"
    assert wider[: len(pairs)] == pairs, "a further seed adds pairs and changes none"
    assert {(question.first.inner.algorithm, question.second.inner.algorithm) for question in mixed} <= {
        ("anil", "maml")
    }


def test_fit_is_least_squares():
    draw = np.random.default_rng(0)
    for n, noise in ((3, 0.1), (50, 0.3), (50, 0.0)):
        x = draw.uniform(0.3, 0.7, n)
        y = 1.1 * x - 0.2 + noise * draw.normal(size=n)
        slope, intercept = np.polyfit(x, y, 1)
        r2 = np.corrcoef(x, y)[0, 1] ** 2
        assert fit(x.tolist(), y.tolist()) == pytest.approx((slope, intercept, r2))
    assert fit([1, 2, 3], [5, 5, 5]) == (0, 5, 1)
    for few in ([], [0.5], [0.5, 0.6], [0.5, 0.5, 0.5]):
        with pytest.raises(KeyError, match="too few"):
            fit(few, few)


# What is drawn


def test_lines_are_means_over_seeds():
    line = mean_line("MAML", ("a", "b"), [[1.0, 2.0], [3.0, 2.0]])
    assert line == Series("MAML", ("a", "b"), (2.0, 2.0), (stdev([1, 3]), 0.0))
    assert mean_line("MAML", ("a",), [[1.0]]) == Series("MAML", ("a",), (1.0,))


@pytest.mark.parametrize("points", [1, 59, 60, 61, 180, 3000])
def test_a_long_curve_is_drawn_in_blocks(points):
    x, values = list(range(10, 10 * points + 1, 10)), [float(i % 7) for i in range(points)]
    line = curve("ANIL training", x, [values])
    assert len(line.x) == len(line.y) <= 60
    assert line.x[-1] == x[-1]
    if points % 60 == 0:
        assert len(line.x) == 60
        assert fmean(line.y) == pytest.approx(fmean(values))
    if points < 60:
        assert line.y == tuple(values)


def drawn(panels: tuple[Panel, ...]) -> int:
    for panel in panels:
        for line in panel.series:
            assert len(line.x) == len(line.y)
            assert len(line.spread) in (0, len(line.y))
        assert len({line.label for line in panel.series}) == len(panel.series)
    return sum(len(line.x) for panel in panels for line in panel.series)


@pytest.mark.parametrize("each", FIGURES, ids=lambda each: each.name)
def test_a_figure_draws_what_there_is(each: Figure):
    """Any one answer alone, all but one, one seed, one problem."""
    answers = answers_to(each, scale_of(3))
    whole = drawn(each.panels(answers))
    assert whole > 0
    assert drawn(each.panels({})) == 0
    for name, answer in answers.items():
        assert drawn(each.panels({name: answer})) < whole
        assert 0 < drawn(each.panels({other: value for other, value in answers.items() if other != name})) <= whole
    for keep in (
        lambda run: run.seed == 0,
        lambda run: run.problem.shot == 5,
        lambda run: run.inner.algorithm == "maml",
    ):
        questions = each.asks(scale_of(3))
        part = {name: answer for name, answer in answers.items() if all(map(keep, questions[name].runs))}
        assert 0 <= drawn(each.panels(part)) <= whole


def test_what_is_averaged_in_a_figure():
    def by_seed(question: Question, answer: Change) -> Change:
        assert isinstance(question, Movement)
        return altered(answer, cca=dict.fromkeys(answer.cca, 0.9 + question.run.seed / 20))

    panels = Panels(figure("figure2").panels(answers_to(figure("figure2"), scale_of(3), by_seed)))
    assert list(panels) == ["CCA before and after adaptation", "CKA before and after adaptation"]
    line = panels["CCA before and after adaptation"][MINI1]
    assert line.x == ("Conv1", "Conv2", "Conv3", "Conv4", "Head")
    assert line.y == pytest.approx([0.95] * 5)
    assert line.spread == pytest.approx([0.05] * 5)


def test_a_late_pair_of_seeds_is_drawn_without_the_earlier_ones():
    """As where the network of a seed is missing."""
    questions = figure("figure11").asks(scale_of(3))
    wanted = {name for name, question in questions.items() if {run.seed for run in question.runs} == {1, 2}}
    answers = {name: answer for name, answer in answers_to(figure("figure11"), scale_of(3)).items() if name in wanted}
    panels = figure("figure11").panels(answers)
    assert [[len(line.x) for line in panel.series] for panel in panels] == [[4, 4], [4, 4]]


def test_points_of_figure_11_are_of_the_same_seeds():
    def marked(question: Question, _: object) -> object:
        assert isinstance(question, Likeness)
        mark = 10 * question.first.seed + question.second.seed
        return alike(cca={"pre-pre": dict.fromkeys(LAYERS, float(mark))})

    for panel in figure("figure11").panels(answers_to(figure("figure11"), scale_of(3), marked)):
        for line in panel.series:
            assert line.x == line.y
            assert set(line.x) == {1.0, 2.0, 12.0}


@pytest.mark.parametrize(("seeds", "spread"), [(1, 1.0), (2, 0.0)])
def test_accuracies_over_training_have_their_interval_or_the_deviation_over_seeds(seeds, spread):
    figure3 = figure("figure3")
    lines = figure3.panels(answers_to(figure3, scale_of(seeds)))[0].series
    assert len(lines) == 3
    for line in lines:
        assert line.spread == pytest.approx([spread] * 5)
