"""The paper's tables and figures as values: its numbers and what they need."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import pytest
from paper_like import EXHIBITS, LAYERS, accuracy_of, alike

from innerloop.experiments.exhibits import Figure, Table
from innerloop.experiments.few_shot import Accuracy, Likeness, Movement, Seconds, Timing
from innerloop.experiments.plan import trainings
from innerloop.experiments.questions import Question, name_of
from innerloop.paper import STUDY
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI1, MINI5, OMNI1, OMNI5, SCALES, head_on, timed, training
from innerloop.runs.config import Spec

TABLES = [exhibit for exhibit in EXHIBITS.values() if isinstance(exhibit, Table)]
FIGURES = [exhibit for exhibit in EXHIBITS.values() if isinstance(exhibit, Figure)]


def table(name: str) -> Table:
    exhibit = EXHIBITS[name]
    assert isinstance(exhibit, Table)
    return exhibit


def runs_of(*names: str, scale: str = "paper") -> set[Spec]:
    return {run for name in names for question in EXHIBITS[name].questions(SCALES[scale]) for run in question.runs}


# What the paper has


def test_every_table_and_figure_is_there():
    numbers = {"table": range(1, 9), "figure": (2, 3, 5, 6, 7, 8, 9, 10, 11)}
    assert list(EXHIBITS) == [f"{kind}{number}" for kind, of in numbers.items() for number in of]
    assert [exhibit.name for exhibit in STUDY.exhibits] == list(EXHIBITS)
    for exhibit in EXHIBITS.values():
        assert exhibit.claims
        assert exhibit.title
        assert exhibit.about
        assert all("(" in claim.sentence and claim.test for claim in exhibit.claims), "with its place in the paper"


PUBLISHED = [
    ("table1", "None", MINI1, 46.9, 0.2),
    ("table1", "1,2", MINI5, 62.6, 0.6),
    ("table1", "1,2,3", MINI5, 61.2, 0.5),
    ("table1", "1,2,3,4", MINI1, 46.3, 0.4),
    ("table2", "MAML", OMNI1, 93.7, 0.7),
    ("table2", "ANIL", OMNI5, 98.0, 0.3),
    ("table2", "ANIL", MINI5, 61.5, 0.5),
    ("table2", "ANIL", "HalfCheetah-Direction", 363.2, 14.8),
    ("table2", "MAML", "HalfCheetah-Velocity", -139.0, 18.9),
    ("table2", "ANIL", "2D-Navigation", -20.1, 2.3),
    ("table3", "ANIL-ANIL", "CKA Similarity", 0.86, None),
    ("table3", "ANIL-MAML", "CCA Similarity", 0.50, None),
    ("table4", "NIL", OMNI5, 98.0, 0.04),
    ("table4", "NIL", MINI1, 48.0, 0.7),
    ("table4", "MAML", OMNI5, 96.4, 0.1),
    ("table5", "Multiclass training-NIL head", MINI5, 54.4, 0.5),
    ("table5", "Multitask training-NIL head", MINI5, 34.2, 3.5),
    ("table5", "Random features-NIL head", MINI1, 32.9, 0.6),
    ("table5", "NIL training-NIL head", MINI5, 43.0, 0.2),
    ("table6", "Training: MAML", "5way-5shot mean (s)", 0.68, None),
    ("table6", "Training: First Order MAML", "5way-1shot median (s)", 0.083, None),
    ("table6", "Training: ANIL", "5way-1shot speedup", 1.79, None),
    ("table6", "Inference: MAML", "5way-1shot median (s)", 0.078, None),
    ("table6", "Inference: ANIL", "5way-5shot median (s)", 0.071, None),
    ("table6", "Inference: ANIL", "5way-5shot speedup", 4.87, None),
    ("table7", "ANIL training-ANIL head", MINI1, 46.7, 0.4),
    ("table7", "Multiclass pretrain-MAML head", MINI5, 54.6, 0.4),
    ("table7", "Multitask pretrain-MAML head", MINI5, 32.8, 0.6),
    ("table7", "Random features-MAML head", MINI1, 32.1, 0.5),
    ("table7", "Random features-NIL head", MINI5, 43.2, 0.5),
    ("table8", "(Multiclass pretrain, MAML)", "CKA Similarity", 0.79, None),
    ("table8", "(Random features, MAML)", "CCA Similarity", 0.40, None),
    ("table8", "(Multitask pretrain, MAML)", "CKA Similarity", 0.65, None),
]


@pytest.mark.parametrize(("name", "row", "column", "mean", "spread"), PUBLISHED)
def test_the_published_number_is_in_its_place(name, row, column, mean, spread):
    assert table(name).published[row, column] == (mean, spread)


@pytest.mark.parametrize("each", TABLES, ids=lambda each: each.name)
def test_a_published_number_stands_in_every_place(each: Table):
    ours = [row for row in each.rows if each.name == "table7" and row.startswith("NIL training")]
    assert set(each.published) == {(row, column) for row in each.rows for column in each.columns if row not in ours}
    assert set(each.column_digits) <= set(each.columns)


def test_tables_that_share_numbers_in_the_paper_share_them_here():
    def same(ours: tuple[str, str], theirs: tuple[str, str], columns: tuple[str, ...] = (MINI1, MINI5)) -> None:
        for column in columns:
            assert table(ours[0]).published[ours[1], column] == table(theirs[0]).published[theirs[1], column]
            scale = SCALES["small"]
            one = table(ours[0]).cell(scale, ours[1], column, 0)
            other = table(theirs[0]).cell(scale, theirs[1], column, 0)
            assert one
            assert other
            assert one.questions == other.questions

    same(("table1", "None"), ("table2", "MAML"))
    same(("table2", "MAML"), ("table4", "MAML"), (OMNI1, OMNI5, MINI1, MINI5))
    same(("table2", "ANIL"), ("table4", "ANIL"), (OMNI1, OMNI5, MINI1, MINI5))
    same(("table4", "NIL"), ("table5", "ANIL training-NIL head"))
    same(("table5", "MAML training-NIL head"), ("table7", "MAML training-NIL head"))
    same(("table5", "Multitask training-NIL head"), ("table7", "Multitask pretrain-NIL head"))
    same(("table5", "Random features-NIL head"), ("table7", "Random features-NIL head"))
    same(("table2", "MAML"), ("table7", "MAML training-MAML head"))
    same(("table3", "MAML-MAML"), ("table8", "(MAML, MAML)"), ("CCA Similarity", "CKA Similarity"))


def test_numbers_are_written_down_row_after_row():
    numbers = grid(("a", "b"), ("x", "y"), "1±0.5 - -2.5 0.04")
    assert numbers == {("a", "x"): (1.0, 0.5), ("b", "x"): (-2.5, None), ("b", "y"): (0.04, None)}
    with pytest.raises(ValueError, match="zip"):
        grid(("a", "b"), ("x", "y"), "1 2 3")


# What a table or figure asks for


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
@pytest.mark.parametrize("each", TABLES, ids=lambda each: each.name)
def test_places_of_a_table_ask_different_questions(each: Table, scale):
    """The reinforcement learning of Table 2 has its place and asks nothing yet."""
    asked: dict[tuple[Question, ...], tuple[str, str]] = {}
    for row in each.rows:
        for column in each.columns:
            cells = [each.cell(scale, row, column, repeat) for repeat in range(scale.seeds)]
            questions = [cell.questions for cell in cells if cell]
            if each.name == "table2" and column not in (OMNI1, OMNI5, MINI1, MINI5):
                assert questions == []
                continue
            assert questions, (row, column)
            assert len(set(questions)) == len(questions), "every seed asks for itself"
            kinds = {type(question) for of in questions for question in of}
            if kinds <= {Accuracy}:
                assert not set(questions) & set(asked), (row, column)
            asked |= dict.fromkeys(questions, (row, column))
    assert len(each.questions(scale)) == len({question for of in asked for question in of})


def test_how_a_cell_reads_its_answers():
    scale = SCALES["paper"]

    def read(name: str, row: str, column: str, *answers: object) -> float:
        cell = table(name).cell(scale, row, column, 0)
        assert cell is not None
        return cell.read(*answers)

    assert read("table1", "1", MINI1, accuracy_of(0.465)) == pytest.approx(46.5)
    assert read("table6", "Inference: ANIL", "5way-1shot mean (s)", Seconds(0.02, 0.017, 3, "cpu")) == 0.02
    assert read("table6", "Inference: ANIL", "5way-1shot median (s)", Seconds(0.02, 0.017, 3, "cpu")) == 0.017
    maml, anil = (Seconds(mean, 9, 3, "cpu") for mean in (0.08, 0.02))
    assert read("table6", "Inference: ANIL", "5way-1shot speedup", maml, anil) == pytest.approx(4)
    by_layer = dict(zip(LAYERS, (0.1, 0.2, 0.6, 0.9, 100.0), strict=True))
    both = alike(cca={"pre-pre": by_layer}, cka={"pre-pre": dict.fromkeys(LAYERS, 0.5)})
    assert read("table3", "ANIL-MAML", "CCA Similarity", both) == pytest.approx(0.45), "the body, without the head"
    assert read("table3", "ANIL-MAML", "CKA Similarity", both) == pytest.approx(0.5)
    assert read("table8", "(MAML, MAML)", "CCA Similarity", both) == pytest.approx(0.3), "the first three layers"


def test_what_is_asked_of_which_network():
    scale = SCALES["paper"]

    def asked(name: str, row: str, column: str) -> Question:
        cell = table(name).cell(scale, row, column, 1)
        assert cell is not None
        return cell.questions[0]

    maml1, anil5 = training(scale, MINI1, "maml", 1), training(scale, MINI5, "anil", 1)
    multiclass, random = training(scale, MINI5, "multiclass", 1), training(scale, MINI5, "random", 1)
    assert asked("table1", "1,2,3", MINI1) == Accuracy(maml1, frozen=3)
    assert asked("table4", "NIL", MINI5) == Accuracy(anil5, nil=True)
    assert asked("table5", "Multiclass training-NIL head", MINI5) == Accuracy(multiclass, nil=True, shot=5)
    assert asked("table5", "Multiclass training-NIL head", MINI1) == Accuracy(multiclass, nil=True)
    assert asked("table5", "Random features-NIL head", MINI5) == Accuracy(random, nil=True, shot=5)
    assert (multiclass.problem.shot, random.problem.shot, random.schedule.iterations) == (1, 1, 0)
    assert multiclass.inner.algorithm == "multiclass"
    head = head_on(scale, MINI5, "multiclass", 1)
    assert asked("table7", "Multiclass pretrain-MAML head", MINI5) == Accuracy(head)
    assert (head.inner.body, head.inner.algorithm) == (multiclass.name, "anil")
    assert (head.problem.shot, head.schedule.iterations) == (5, 6000)
    assert Timing(timed(scale, MINI1, "fomaml"), "training", 2000) in table("table6").questions(scale)
    resemblance = asked("table8", "(Multitask pretrain, MAML)", "CCA Similarity")
    assert isinstance(resemblance, Likeness)
    assert (resemblance.first.inner.algorithm, resemblance.second) == ("multitask", training(scale, MINI1, "maml", 2))


@pytest.mark.parametrize(("name", "runs", "seeds"), [("smoke", 44, 2), ("small", 44, 2), ("paper", 66, 3)])
def test_tables_and_figures_share_their_runs(name, runs, seeds):
    assert SCALES[name].seeds == seeds
    assert len(runs_of(*EXHIBITS, scale=name)) == runs
    assert len(runs_of("table1", scale=name)) == 2 * seeds
    assert len(runs_of("table2", scale=name)) == 8 * seeds
    assert runs_of("table1", scale=name) < runs_of("table2", scale=name) == runs_of("table4", scale=name)
    assert runs_of("table3", scale=name) < runs_of("table2", scale=name)
    assert runs_of("table8", scale=name) < runs_of("table5", scale=name)
    assert runs_of("table5", scale=name) | runs_of("table7", scale=name) > runs_of("table5", scale=name)
    tables = runs_of(*(each.name for each in TABLES), scale=name)
    assert runs_of(*(each.name for each in FIGURES), scale=name) < tables, "figures need no training of their own"
    assert runs_of("table6", scale=name) == set()


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_bodies_are_trained_before_the_heads_on_them(scale, tmp_path):
    plan = [each.spec for each in trainings(table("table7").questions(scale), tmp_path)]
    names = [spec.name for spec in plan]
    heads = [spec for spec in plan if spec.inner.body]
    assert len(heads) == 8 * scale.seeds
    assert all(names.index(spec.inner.body) < names.index(spec.name) for spec in heads)
    assert [spec.seed for spec in plan] == sorted(spec.seed for spec in plan), "a whole seed before the next"


def test_scales_share_no_name():
    runs = {name: {run.name for run in runs_of(*EXHIBITS, scale=name)} for name in SCALES}
    answers = {
        name: {name_of(question) for exhibit in EXHIBITS.values() for question in exhibit.questions(scale)}
        for name, scale in SCALES.items()
    }
    for one, other in combinations(SCALES, 2):
        assert not runs[one] & runs[other]
        assert not answers[one] & answers[other]


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_different_questions_have_different_names(scale):
    questions = {question for exhibit in EXHIBITS.values() for question in exhibit.questions(scale)}
    assert len({name_of(question) for question in questions}) == len(questions)
    runs = runs_of(*EXHIBITS, scale=scale.name)
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
@pytest.mark.parametrize("each", EXHIBITS.values(), ids=lambda each: each.name)
def test_more_seeds_ask_for_more_and_keep_what_there_is(each, scale):
    """Of networks with one another, which pairs are asked for depends on how many seeds there are."""
    asked = [each.questions(replace(scale, seeds=seeds)) for seeds in (1, 2, 3)]
    runs = [{run for question in questions for run in question.runs} for questions in asked]
    assert runs[0] <= runs[1] <= runs[2]
    alone = [{question for question in questions if not isinstance(question, Likeness)} for questions in asked]
    assert alone[0] <= alone[1] <= alone[2]


@pytest.mark.parametrize("name", SCALES)
def test_kept_checkpoints_are_written_by_the_run(name):
    questions = {question for exhibit in EXHIBITS.values() for question in exhibit.questions(SCALES[name])}
    kept = [question for question in questions if isinstance(question, Accuracy | Movement) and question.at is not None]
    assert kept
    for question in kept:
        assert question.at == 0 or (question.run.schedule.keep and question.at % question.run.schedule.keep == 0)
        assert question.at <= question.run.schedule.iterations
    assert {question.at for question in kept} >= {question.run.schedule.iterations for question in kept}, (
        "the last one is kept too"
    )


# The import


def test_importing_the_paper_reads_and_writes_nothing(tmp_path):
    code = (
        "import sys, torch, safetensors.torch, rich.console, rich.progress, numpy, PIL.Image, pooch\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event == 'open' else None)\n"
        "import innerloop.paper\n"
        "print('matplotlib' in sys.modules, *[name for name in opened if not name.endswith(('.py', '.pyc', '.pyi'))])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.split() == ["False"]
    assert list(tmp_path.iterdir()) == []
