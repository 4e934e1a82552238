"""Claims as code: each holds for numbers like the paper's, fails for others, and waits where a number is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from paper_like import EXHIBITS, LAYERS, accuracy_of, alike, altered, answer_to, answers_to, scale_of

from innerloop.experiments.exhibits import Claim, Figure, Panels, Table, Verdict, judge
from innerloop.experiments.few_shot import Accuracy, Likeness, Movement
from innerloop.paper import table5, table8
from innerloop.paper.scales import MINI1, MINI5, OMNI1, OMNI5

TABLES = [exhibit for exhibit in EXHIBITS.values() if isinstance(exhibit, Table)]
FIGURES = [exhibit for exhibit in EXHIBITS.values() if isinstance(exhibit, Figure)]


def every(exhibits: list[Any]) -> list[Any]:
    return [
        pytest.param(exhibit, claim, id=f"{exhibit.name}-{i}")
        for exhibit in exhibits
        for i, claim in enumerate(exhibit.claims)
    ]


# Tables


def published(table: Table) -> dict[tuple[str, str], float]:
    return {place: mean for place, (mean, _) in table.published.items()}


class Read(dict[tuple[str, str], float]):
    """Remembers what was read of it."""

    def __init__(self, values: dict[tuple[str, str], float]) -> None:
        super().__init__(values)
        self.seen: set[tuple[str, str]] = set()

    def __getitem__(self, place: tuple[str, str]) -> float:
        self.seen.add(place)
        return super().__getitem__(place)


@pytest.mark.parametrize(("table", "claim"), every(TABLES))
def test_the_papers_own_numbers_satisfy_it_and_without_one_it_waits(table: Table, claim: Claim):
    means = Read(published(table))
    assert judge(claim, means) == "holds"
    assert len(means.seen) >= 2
    for place in means.seen:
        rest = {other: value for other, value in means.items() if other != place}
        assert judge(claim, rest) == "not enough runs", place
    assert judge(claim, {}) == "not enough runs"


_MAML, _ANIL, _MULTICLASS, _MULTITASK, _RANDOM, _NIL = table5.ROWS
_WITH_MULTICLASS, _WITH_RANDOM, _WITH_MULTITASK = list(table8.ROWS)[1:]
CCA, CKA = "CCA Similarity", "CKA Similarity"
# One number of the paper's table instead of its own: with the first the claim still holds, with the second no more.
LIMITS = [
    ("table1", 0, "1,2,3,4", MINI1, 44.0, 43.8),
    ("table1", 0, "1,2,3,4", MINI5, 60.2, 60.0),
    ("table1", 0, "None", MINI1, 49.2, 49.4),
    ("table2", 0, "ANIL", OMNI1, 90.8, 90.6),
    ("table2", 0, "ANIL", OMNI5, 93.5, 93.3),
    ("table2", 0, "ANIL", MINI1, 44.0, 43.8),
    ("table2", 0, "ANIL", MINI5, 60.2, 60.0),
    ("table2", 0, "ANIL", OMNI1, 96.6, 96.8),
    ("table2", 1, "ANIL", "HalfCheetah-Direction", 153.4, 153.3),
    ("table2", 1, "ANIL", "HalfCheetah-Velocity", -152.8, -153.0),
    ("table2", 1, "ANIL", "2D-Navigation", -22.3, -22.4),
    ("table3", 0, "ANIL-MAML", CCA, 0.465, 0.455),
    ("table3", 0, "ANIL-MAML", CCA, 0.555, 0.565),
    ("table3", 0, "ANIL-MAML", CKA, 0.80, 0.79),
    ("table3", 0, "MAML-MAML", CKA, 0.89, 0.91),
    ("table4", 0, "NIL", OMNI1, 93.2, 93.0),
    ("table4", 0, "NIL", OMNI5, 95.0, 94.8),
    ("table4", 0, "NIL", MINI1, 43.9, 43.7),
    ("table4", 0, "NIL", MINI5, 60.1, 59.9),
    ("table4", 0, "MAML", OMNI1, 99.7, 99.9),
    ("table4", 0, "NIL", MINI1, 49.7, 49.9),
    ("table5", 0, _MAML, MINI1, 39.8, 39.6),
    ("table5", 0, _ANIL, MINI5, 54.5, 54.3),
    ("table5", 0, _MULTICLASS, MINI1, 47.9, 48.1),
    ("table5", 0, _MULTITASK, MINI1, 47.9, 48.1),
    ("table5", 0, _RANDOM, MINI5, 61.4, 61.6),
    ("table5", 0, _NIL, MINI5, 61.4, 61.6),
    ("table5", 1, _MULTITASK, MINI1, 32.8, 33.0),
    ("table5", 1, _MULTITASK, MINI5, 42.9, 43.1),
    ("table5", 1, _MAML, MINI5, 34.3, 34.1),
    ("table5", 2, _NIL, MINI1, 47.9, 48.1),
    ("table5", 2, _NIL, MINI5, 61.4, 61.6),
    ("table5", 2, _ANIL, MINI1, 38.4, 38.2),
    ("table6", 0, "Training: ANIL", "5way-1shot speedup", 1.51, 1.49),
    ("table6", 0, "Training: ANIL", "5way-5shot speedup", 1.51, 1.49),
    ("table6", 1, "Inference: ANIL", "5way-1shot speedup", 4.01, 3.99),
    ("table6", 1, "Inference: ANIL", "5way-5shot speedup", 4.01, 3.99),
    ("table6", 2, "Training: ANIL", "5way-1shot speedup", 1.55, 1.52),
    ("table6", 2, "Training: ANIL", "5way-5shot speedup", 1.56, 1.53),
    ("table7", 0, "MAML training-NIL head", MINI1, 49.8, 50.0),
    ("table7", 0, "ANIL training-ANIL head", MINI5, 59.3, 59.1),
    ("table7", 0, "Multiclass pretrain-NIL head", MINI1, 41.3, 41.5),
    ("table7", 0, "Multitask pretrain-MAML head", MINI5, 31.3, 31.1),
    ("table7", 0, "Random features-MAML head", MINI1, 30.0, 29.8),
    ("table8", 0, _WITH_MULTICLASS, CCA, 0.41, 0.39),
    ("table8", 0, _WITH_MULTICLASS, CKA, 0.73, 0.71),
    ("table8", 0, _WITH_RANDOM, CCA, 0.47, 0.49),
    ("table8", 0, _WITH_MULTITASK, CKA, 0.78, 0.80),
    ("table8", 1, _WITH_MULTITASK, CCA, 0.39, 0.41),
    ("table8", 1, _WITH_MULTITASK, CKA, 0.71, 0.73),
    ("table8", 1, "(MAML, MAML)", CKA, 0.66, 0.64),
    ("table8", 2, "(MAML, MAML)", CCA, 0.49, 0.47),
    ("table8", 2, _WITH_RANDOM, CKA, 0.78, 0.80),
    ("table8", 2, _WITH_MULTITASK, CCA, 0.39, 0.41),
]


@pytest.mark.parametrize(("name", "number", "row", "column", "inside", "outside"), LIMITS)
def test_a_tables_claim_ends_where_its_words_say(name, number, row, column, inside, outside):
    table = EXHIBITS[name]
    assert isinstance(table, Table)
    assert judge(table.claims[number], published(table) | {(row, column): inside}) == "holds"
    assert judge(table.claims[number], published(table) | {(row, column): outside}) == "does not hold"


# Figures: made-up answers to their questions, through their own panels.


def verdict(figure: Figure, number: int, seeds: int, changed: Any = None) -> Verdict:
    panels = figure.panels(answers_to(figure, scale_of(seeds), changed))
    return judge(figure.claims[number], Panels(panels))


def compares_seeds(figure: Figure) -> bool:
    return figure.name in ("figure7", "figure8", "figure11")


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize(("figure", "claim"), every(FIGURES))
def test_a_figures_claim_holds_for_answers_like_the_papers(figure: Figure, claim: Claim, seeds: int):
    expected = "not enough runs" if seeds == 1 and compares_seeds(figure) else "holds"
    assert verdict(figure, figure.claims.index(claim), seeds) == expected
    assert judge(claim, Panels(figure.panels({}))) == "not enough runs"


def with_layer(kind: str, layer: str, value: float, *, problem: str = MINI5, checkpoint: int | None = None):
    """The answers about one problem, and one checkpoint of it, with another value for a layer."""

    def changed(question: Any, answer: Any) -> Any:
        if isinstance(question, Movement) and about(question, problem) and at(question) == checkpoint:
            return altered(answer, **{kind: getattr(answer, kind) | {layer: value}})
        return answer

    return changed


def about(question: Any, problem: str) -> bool:
    run = question.first if isinstance(question, Likeness) else question.run
    base = scale_of(1).problems[problem]
    return (run.problem.data, run.problem.way, run.problem.shot) == (
        base.problem.data,
        base.problem.way,
        base.problem.shot,
    )


def at(question: Any) -> int | None:
    """Which of the kept checkpoints: 0 for the first weights, then 1, 2 and 3."""
    return None if question.at is None else question.at // question.run.schedule.keep


def frozen_costs(points: float, *, checkpoint: int):
    def changed(question: Any, answer: Any) -> Any:
        if isinstance(question, Accuracy) and question.frozen == 4 and at(question) == checkpoint:
            return accuracy_of(0.6 - points / 100)
        return answer

    return changed


def anil_differs(points: float, problem: str = MINI5, *, what: str = "val_accuracy"):
    """ANIL `points` above MAML throughout, or its loss so many per cent above."""

    def changed(question: Any, answer: Any) -> Any:
        if question.run.inner.algorithm != "anil" or not about(question, problem):
            return answer
        maml = getattr(answer_to(replace(question, run=question.run.where(algorithm="maml"))), what)
        if what == "loss":
            return altered(answer, **{what: [value + points / 100 * 1.3 for value in maml]})  # MAML's mean is 1.3
        return altered(answer, **{what: [value + points / 100 for value in maml]})

    return changed


def line(slope: float, scatter: float = 0.0, *, kind: str = "cca", when: str = "post-post"):
    """Comparisons after adaptation lie on a line through the others', this far to both sides of it."""

    def changed(_: Any, answer: Any) -> Any:
        moved = {
            layer: slope * value + (scatter if i % 3 else -2 * scatter)
            for i, (layer, value) in enumerate(getattr(answer, kind)["pre-pre"].items())
        }
        return altered(answer, **{kind: getattr(answer, kind) | {when: moved}})

    return changed


def mixed_pairs(change: Any):
    """Comparisons of ANIL with MAML."""

    def changed(question: Likeness, answer: Any) -> Any:
        if question.first.inner.algorithm == question.second.inner.algorithm:
            return answer
        values = {layer: change(i, value) for i, (layer, value) in enumerate(answer.cca["pre-pre"].items())}
        return alike(cca={"pre-pre": values})

    return changed


# A change of the answers with which a figure's claim still holds, and one with which it does not.
CHANGES = [
    ("figure2", 0, with_layer("cca", "block2", 0.91), with_layer("cca", "block2", 0.89)),
    ("figure2", 0, with_layer("cca", "head", 0.1), with_layer("cca", "block4", 0.89, problem=MINI1)),
    ("figure2", 1, with_layer("cca", "head", 0.49), with_layer("cca", "head", 0.51)),
    ("figure2", 2, with_layer("cca", "block4", 0.51), with_layer("cca", "block4", 0.49)),
    ("figure2", 2, with_layer("cka", "head", 0.76), with_layer("cka", "head", 0.78, problem=MINI1)),
    ("figure2", 3, with_layer("cka", "block1", 0.91), with_layer("cka", "block1", 0.89)),
    ("figure2", 3, with_layer("cka", "head", 0.96), with_layer("cka", "head", 0.98)),
    ("figure3", 0, frozen_costs(2.9, checkpoint=1), frozen_costs(3.1, checkpoint=1)),
    ("figure3", 0, frozen_costs(-9, checkpoint=3), frozen_costs(3.1, checkpoint=3)),
    ("figure3", 1, with_layer("cca", "block3", 0.91, checkpoint=1), with_layer("cca", "block3", 0.89, checkpoint=1)),
    ("figure5", 0, anil_differs(4.9), anil_differs(-5.1)),
    ("figure5", 0, anil_differs(-4.9, what="accuracy"), anil_differs(5.1, what="accuracy")),
    ("figure5", 0, anil_differs(9.9, what="loss"), anil_differs(10.1, what="loss")),
    ("figure6", 0, with_layer("distance", "block2", 0.49, checkpoint=1),
     with_layer("distance", "block2", 0.51, checkpoint=1)),
    ("figure6", 0, with_layer("distance", "block2", 9, checkpoint=0),
     with_layer("distance", "block2", 0.51, checkpoint=3, problem=MINI1)),
    ("figure7", 0, line(1.09), line(1.11)),
    ("figure7", 0, line(1, 0.01), line(1, 0.1)),
    ("figure7", 0, line(0.91, when="pre-post"), line(0.89, when="post-pre")),
    ("figure8", 0, line(1.24, kind="cka"), line(1.26, kind="cka")),
    ("figure8", 0, line(1, 0.02, kind="cka"), line(1, 0.15, kind="cka")),
    ("figure9", 0, frozen_costs(2.9, checkpoint=2), frozen_costs(3.1, checkpoint=2)),
    ("figure9", 1, with_layer("cca", "block3", 0.91, checkpoint=2, problem=MINI1),
     with_layer("cca", "block3", 0.89, checkpoint=2, problem=MINI1)),
    ("figure10", 0, anil_differs(4.9, OMNI1), anil_differs(5.1, OMNI1)),
    ("figure11", 0, mixed_pairs(lambda _, value: 0.5 * value), mixed_pairs(lambda _, value: 1 - value)),
    ("figure11", 0, mixed_pairs(lambda i, value: value + 0.02 * (-1) ** i),
     mixed_pairs(lambda i, value: value + 0.2 * (-1) ** i)),
]  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize(("name", "number", "inside", "outside"), CHANGES)
def test_a_figures_claim_ends_where_its_words_say(name, number, inside, outside, seeds):
    figure = EXHIBITS[name]
    assert isinstance(figure, Figure)
    if seeds == 1 and compares_seeds(figure):
        return
    assert verdict(figure, number, seeds, inside) == "holds"
    assert verdict(figure, number, seeds, outside) == "does not hold"


def without(leave_out: Any):
    return lambda question, answer: None if leave_out(question) else answer


LACKS = [
    ("figure2", without(lambda q: about(q, MINI5))),
    ("figure3", without(lambda q: at(q) == 1)),
    ("figure3", without(lambda q: at(q) == 3)),
    ("figure5", without(lambda q: q.run.inner.algorithm == "anil")),
    ("figure5", without(lambda q: q.run.inner.algorithm == "maml")),
    ("figure6", without(lambda q: about(q, MINI1))),
    ("figure6", without(lambda q: about(q, MINI5) and at(q) == 2)),
    ("figure7", without(lambda q: about(q, MINI1))),
    ("figure8", without(lambda q: about(q, MINI5))),
    ("figure9", without(lambda q: at(q) == 2)),
    ("figure10", without(lambda q: about(q, OMNI1))),
    ("figure10", without(lambda q: about(q, MINI1) and q.run.inner.algorithm == "anil")),
    ("figure11", without(lambda q: about(q, MINI1))),
    ("figure11", without(lambda q: q.first.inner.algorithm != q.second.inner.algorithm)),
    ("figure11", without(lambda q: q.first.inner.algorithm == q.second.inner.algorithm == "anil")),
]


@pytest.mark.parametrize(("name", "changed"), LACKS)
def test_a_figures_claim_waits_for_what_it_lacks(name, changed):
    figure = EXHIBITS[name]
    assert isinstance(figure, Figure)
    assert {verdict(figure, number, 3, changed) for number in range(len(figure.claims))} == {"not enough runs"}


@pytest.mark.parametrize("number", [0, 1])
def test_a_checkpoint_waits_for_every_number_of_frozen_layers(number):
    """Its accuracies do; the similarity of its layers needs none of them."""
    figure = EXHIBITS["figure3"]
    assert isinstance(figure, Figure)
    changed = without(lambda q: isinstance(q, Accuracy) and q.frozen == 4 and at(q) == 2)
    assert verdict(figure, number, 2, changed) == ("holds" if number else "not enough runs")


def test_every_claim_is_violated_somewhere_here():
    assert {(name, number) for name, number, *_ in (*LIMITS, *CHANGES)} == {
        (exhibit.name, number) for exhibit in EXHIBITS.values() for number in range(len(exhibit.claims))
    }
    assert {name for name, _ in LACKS} == {figure.name for figure in FIGURES}
    assert LAYERS[-1] == "head"
