"""`innerloop paper` as it is typed, on a scale so small that a test can afford it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import Outcome, call, complaint

from innerloop import paper as study
from innerloop.experiments.executors import here
from innerloop.experiments.few_shot import Accuracy
from innerloop.experiments.questions import name_of
from innerloop.experiments.scale import Scale
from innerloop.paper import STUDY
from innerloop.paper.scales import MINI5, SCALES, training
from innerloop.runs.schedule import Interrupted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def pictures(folder) -> Path:
    return tiny.pictures(folder / "shapes", each=20)


@pytest.fixture(autouse=True)
def smaller(folder, pictures, monkeypatch):
    shrink(folder, pictures, monkeypatch)


def shrink(folder: Path, pictures: Path, patch: pytest.MonkeyPatch) -> None:
    """The smoke scale on few pictures of three classes."""
    small = {"data": str(pictures), "way": 3, "query": 2, "size": 20, "width": 4, "meta_batch": 1, "steps": 1,
             "iterations": 3, "keep": 1, "val_every": 3, "val_episodes": 2, "test_episodes": 2, "test_steps": 1,
             "pooling": "stride", "log_every": 1}  # fmt: skip
    problems = {name: spec.where(**small) for name, spec in SCALES["smoke"].problems.items()}
    counts = {"compared": 1, "checkpoint": 2, "batches": 1}
    with_smoke(replace(SCALES["smoke"], problems=problems, counts=counts), patch)
    patch.setenv("INNERLOOP_CACHE", str(folder / "cache"))
    patch.setenv("COLUMNS", "160")


def with_smoke(scale: Scale, patch: pytest.MonkeyPatch) -> None:
    """The command's study has this scale for its smallest."""
    patch.setattr(study, "STUDY", replace(STUDY, scales=(scale, *STUDY.scales[1:])))


def smoke() -> Scale:
    return study.STUDY.scale("smoke")


def paper(action: str, *what: object, store: Path) -> Outcome:
    return call("paper", action, *what, "--store", store, "--device", "cpu")


SMOKE = ("--scale", "smoke", "--seeds", 1)


@pytest.fixture(scope="module")
def made(folder, pictures) -> Path:
    """A store with Table 1 and Figure 2."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(folder, pictures, patch)
        outcome = paper("run", "table1", "figure2", *SMOKE, store=folder / "store")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert "12 of 12 questions and 2 of the 2 runs they need are left" in lines
    assert lines[-1] == f"all is made. To look at it: innerloop paper report --store {folder / 'store'}"
    return folder / "store"


@pytest.fixture
def store(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def rows(outcome: Outcome) -> list[list[str]]:
    """The cells of a printed table, without its head."""
    assert outcome.code == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


# list


def test_list_shows_everything_and_how_much_of_it_is_made(store, tmp_path):
    listed = {row[0]: row[1:] for row in rows(paper("list", store=store))}
    assert list(listed) == [exhibit.name for exhibit in STUDY.exhibits]
    assert listed["table1"] == [STUDY.exhibit("table1").title, "10/20", "0/20", "0/30"]
    assert listed["figure2"][1] == "2/4"
    assert listed["table4"][1].startswith("2/"), "which shares two numbers with Table 1"
    assert listed["table6"][1].startswith("0/")
    assert [row[2:] for row in rows(paper("list", "table1", *SMOKE, store=store))] == [["10/10"]]
    assert rows(paper("list", "figure2", "table1", store=tmp_path / "nothing"))[0][2:] == ["0/4", "0/4", "0/6"]


# plan


def test_plan_shows_runs_and_what_is_left(store):
    outcome = paper("plan", "table1", "table2", *SMOKE, store=store)
    planned = rows(outcome)
    assert len(planned) == 8
    assert [row[1:] for row in planned if row[2] == "all"] == [["3", "all", "-"]] * 2
    assert [row[1:] for row in planned if row[2] == "-"] == [["3", "-", "unknown"]] * 6
    assert outcome.out.splitlines()[-1] == (
        "10/16 questions are answered. Left: 6 trainings (unknown one after the other)."
    )
    done = paper("plan", "figure2", *SMOKE, store=store)
    assert {row[2] for row in rows(done)} == {"all"}
    assert done.out.splitlines()[-1] == "2/2 questions are answered. Left: no training."
    more = paper("plan", "table1", "--scale", "smoke", "--seeds", 2, store=store)
    assert [row[3] for row in rows(more)] == ["-", "-", "a minute", "a minute"], "as those of the first seed"


def test_what_is_planned_is_what_is_run(store):
    """A run that was deleted is not trained again for answers that are there."""
    gone = training(smoke(), MINI5, "maml", 0)
    shutil.rmtree(store / gone.name)
    assert [row[2] for row in rows(paper("plan", "table1", *SMOKE, store=store))].count("its answers") == 1
    assert paper("run", "table1", *SMOKE, store=store).code == 0
    assert not (store / gone.name).exists()


# run


def test_run_again_does_nothing(store, monkeypatch):
    def refuse(*_: Any) -> Any:
        pytest.fail("it works")

    monkeypatch.setattr(here, "train", refuse)
    monkeypatch.setattr(here, "answer", refuse)
    outcome = paper("run", "table1", "figure2", *SMOKE, store=store)
    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == "0 of 12 questions and 0 of the 2 runs they need are left"
    assert len(outcome.err.splitlines()) == 2


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*_: Any) -> Any:
        raise Interrupted("stopped after iteration 1 of 3")

    monkeypatch.setattr(here, "train", interrupted)
    outcome = paper("run", "table1", *SMOKE, store=tmp_path / "store")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].startswith(
        "innerloop: stopped after iteration 1 of 3. To go on: innerloop paper run table1 --scale smoke --seeds 1"
    )


def without_data(monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    """One problem of the smoke scale is on Omniglot."""
    scale = smoke()
    absent = scale.problems[problem].where(data="omniglot", split="reference")
    problems = {**scale.problems, problem: absent}
    with_smoke(replace(scale, problems=problems), monkeypatch)


def test_a_missing_data_set_costs_what_needs_it_and_is_explained(store, tmp_path, monkeypatch):
    without_data(monkeypatch, MINI5)
    outcome = paper("run", "table1", *SMOKE, "--omniglot", tmp_path / "nowhere", store=store)
    assert complaint(outcome) == "the rest is done; what is missing is said above"
    (said,) = [line for line in outcome.err.splitlines() if "questions are open: " in line]
    assert said.startswith("5 questions are open: ")
    assert "nowhere" in said

    reasons = json.loads((store / "missing.json").read_text())
    assert len(reasons) == 5
    (why,) = set(reasons.values())
    assert said.endswith(why)
    assert call("paper", "report", "table1", *SMOKE, "--store", store, "--out", tmp_path / "page").code == 0
    assert "nowhere" in (tmp_path / "page" / "report.md").read_text()


def test_reasons_go_once_the_answers_are_there(store):
    reasons = {name_of(Accuracy(training(smoke(), MINI5, "maml", 0))): "long ago", "accuracy-of-another": "still"}
    (store / "missing.json").write_text(json.dumps(reasons))
    assert paper("run", "table1", *SMOKE, store=store).code == 0
    assert json.loads((store / "missing.json").read_text()) == {"accuracy-of-another": "still"}


# report


def test_report_writes_one_page(store, tmp_path):
    outcome = call("paper", "report", "--store", store, "--out", tmp_path / "page")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [f"report: {tmp_path / 'page' / 'index.html'}"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert STUDY.exhibit("table1").title in page
    assert "<img src=" in page
    assert [path.name for path in (tmp_path / "page" / "figures").iterdir()] == ["figure2-smoke.svg"]
    assert "Table 1" in (tmp_path / "page" / "report.md").read_text()


def test_report_with_nothing_made(tmp_path):
    outcome = call("paper", "report", "--store", tmp_path / "nothing", "--out", tmp_path / "page")
    assert outcome.code == 0
    assert "Nothing is measured yet" in (tmp_path / "page" / "index.html").read_text()
    assert not (tmp_path / "nothing").exists()


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "table9"], "there is no 'table9'. There are: table1, table2, "),
        (["run", "table1", "figure4", *SMOKE], "there is no 'figure4'. There are: "),
        (["run", "table1"], "run needs --scale: smoke, small or paper"),
        (["plan"], "plan needs --scale: "),
        (["run", "table1", "--scale", "smoke", "--seeds", 0], "--seeds must be at least 1, got 0"),
        (["list", "--seeds", -1], "--seeds must be at least 1, got -1"),
        (["report", "--seeds", 0], "--seeds must be at least 1, got 0"),
        (["run", "table1", "--scale", "huge"], "there is no scale 'huge'. There are: smoke, small, paper."),
        (["draw"], "invalid choice 'draw'"),
        ([], "Missing from innerloop paper"),
        (["run", "table1", *SMOKE, "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["plan", "table1", *SMOKE, "--device", "banana"], "no device 'banana' here"),
        (["run", "table1", *SMOKE, "--workers", "many"], "--workers is auto or a number from 1 on, got 'many'"),
    ],
)
def test_mistakes_end_in_one_line(arguments, said, tmp_path):
    outcome = call("paper", *arguments, "--store", tmp_path / "store")
    lines = [line for line in outcome.err.splitlines() if line.startswith("innerloop: ")]
    assert outcome.code in (1, 2)
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.glob("store/*-seed*"))


@pytest.mark.parametrize("damage", [b"\xff", b"{}", b'{"answer": {"accuracy": "high"}}'])
def test_a_damaged_answer_is_named_and_holds_up_no_other(damage, store, tmp_path):
    path = sorted((store / "measured").glob("accuracy-*.json"))[0]
    path.write_bytes(damage)
    for action in ("list", "plan"):
        outcome = paper(action, "table1", *SMOKE, store=store)
        assert outcome.code == 0
        assert f"innerloop: warning: {path} is damaged (" in outcome.err
        assert "9/10" in outcome.out
    report = call("paper", "report", "table1", *SMOKE, "--store", store, "--out", tmp_path / "page")
    assert report.code == 0
    assert f"{path} is damaged (" in report.err
    assert f"{path} is damaged (" in (tmp_path / "page" / "index.html").read_text().replace("&#34;", '"')
    run = paper("run", "table1", "figure2", *SMOKE, store=store)
    assert complaint(run) == "the rest is done; what is missing is said above"
    assert f"1 questions are open: {path} is damaged (" in run.err
    path.unlink()
    assert paper("run", "table1", *SMOKE, store=store).code == 0


def test_damaged_reasons_hold_up_nothing(store, tmp_path):
    (store / "missing.json").write_text("[")
    report = call("paper", "report", "table1", *SMOKE, "--store", store, "--out", tmp_path / "page")
    assert report.code == 0
    assert f"innerloop: warning: {store / 'missing.json'} is damaged (" in report.err
    assert paper("run", "table1", *SMOKE, store=store).code == 0
    assert json.loads((store / "missing.json").read_text()) == {}
