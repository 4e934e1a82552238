"""A study of one's own: the one in the docs, as it is typed, and what may be wrong with a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import call, complaint

from innerloop.data.glyphs import SCRIPTS
from innerloop.experiments.study import load_study

PAGE = Path(__file__).parents[2] / "docs" / "studies.md"


@pytest.fixture
def shots(tmp_path, monkeypatch) -> Path:
    """The page's file, with trainings of a few steps; each test imports another module."""
    code = re.search(r'```python title="shots.py"\n(.*?)\n```', PAGE.read_text(), re.DOTALL)
    assert code
    few = "iterations=2, test_episodes=2, val_episodes=2, size=14, spatial_mean=True, width=4"
    small = code[1].replace("iterations=300, test_episodes=200", few)
    assert small != code[1]
    for part, script in (("train", "Greek"), ("val", "Lao"), ("test", "Hebrew")):
        monkeypatch.setitem(SCRIPTS, part, (script,))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"shots_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(small)
    return path


def test_the_page_has_a_study_of_thirty_lines():
    code = re.search(r'```python title="shots.py"\n(.*?)\n```', PAGE.read_text(), re.DOTALL)
    assert code
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 36


@pytest.mark.slow
def test_it_is_listed_planned_run_and_reported(shots, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    listed = call("study", shots, "list")
    assert listed.code == 0, listed.err
    assert "0/12" in listed.out
    assert "quick: 300 iterations on drawn characters." in listed.err
    assert "6 trainings (unknown one after the other)" in call("study", shots, "plan").out
    run = call("study", shots, "run", "--seeds", 1, "--device", "cpu")
    assert run.code == 0, run.err
    assert run.err.splitlines()[-1] == (
        f"all is made. To look at it: innerloop study {shots} report --store runs/shots"
    )
    again = call("study", shots, "run", "--seeds", 1, "--device", "cpu")
    assert "0 of 6 questions and 0 of the 3 runs they need are left" in again.err
    assert call("study", shots, "report").out == "report: shots-report/index.html\n"
    page = (tmp_path / "shots-report" / "report.md").read_text()
    assert page.startswith("# What the inner loop adds to ANIL's features\n")
    assert re.search(r"Found at scale quick, \d seeds?:\*\* It adds [+−-]?\d+\.\d points at 5-shot\.", page)
    assert "paper" not in page.lower()
    assert f"innerloop study {shots} run table1 --scale quick" in page


def test_mistakes_are_one_line(shots, tmp_path):
    assert "there is no 'table9'. There are: table1." in complaint(call("study", shots, "plan", "table9"))
    assert "there is no scale 'huge'. There are: quick." in complaint(call("study", shots, "plan", "--scale", "huge"))
    assert "there is no Python file nowhere.py" in complaint(call("study", "nowhere.py", "plan"))
    assert "there is no Python file" in complaint(call("study", tmp_path, "plan"))
    empty = tmp_path / f"empty_{shots.stem}.py"
    empty.write_text("")
    assert "has no STUDY: end it with STUDY = Study(...)" in complaint(call("study", empty, "plan"))
    taken = tmp_path / "json.py"
    taken.write_text(shots.read_text())
    assert "has the name of another module" in complaint(call("study", taken, "plan"))


def test_a_study_knows_its_parts(shots):
    study = load_study(shots)
    assert study.only([]) == study
    assert study.only(["table1"]).exhibits == study.exhibits
    assert study.scale("quick").seeds == 2
    assert study.scale("quick", 5).seeds == 5
    questions = study.questions(study.scale("quick"))
    assert len(questions) == len(set(questions)) == 12
