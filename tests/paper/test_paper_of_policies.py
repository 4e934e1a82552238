"""The study of policies: what it asks at each scale, and all of it end to end at the smallest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import call

from innerloop.experiments.exhibits import Panels, judge
from innerloop.experiments.plan import trainings
from innerloop.experiments.policies import Returned, Returns
from innerloop.paper.policies import BEFORE, REUSE, STUDY, TABLE, TASKS, Asked, curve_panels, move_panels, training
from innerloop.rl.config import Learning, Settings
from innerloop.rl.reuse import Change
from innerloop.runs.policies import PolicyProbe


def test_the_paper_scale_is_the_papers_own_settings(tmp_path):
    scale = STUDY.scale("paper")
    run = training(scale, Asked("HalfCheetah-Velocity", "ANIL", 2))
    assert run == Settings("cheetah-velocity", seed=2, learning=Learning("anil"))
    assert len(trainings(STUDY.questions(scale), tmp_path)) == 3 * 2 * 3  # tasks, algorithms, seeds


def test_the_return_before_adaptation_stands_beside_every_other():
    scale = STUDY.scale("paper")
    for column in TASKS:
        after, before = (TABLE.cell(scale, row, column, 0) for row in ("MAML", "MAML" + BEFORE))
        assert after is not None
        assert before is not None
        assert after.questions == before.questions
        answer = Returned(-40.0, -20.0, 4.0, 3.0, 40)
        assert (after.read(answer), before.read(answer)) == (-20, -40)
        assert (after.interval(answer), before.interval(answer)) == (3, 4)


def test_claims():
    paper = {place: mean for place, (mean, _) in TABLE.published.items()}
    assert judge(TABLE.claims[0], paper) == "holds"
    assert judge(TABLE.claims[0], paper | {("ANIL", "2D-Navigation"): -23.0}) == "does not hold"
    assert judge(TABLE.claims[1], paper) == "not enough runs"
    before = {(row + BEFORE, column): mean - 1 for (row, column), mean in paper.items()}
    assert judge(TABLE.claims[1], paper | before) == "holds"


@pytest.mark.parametrize(("frozen", "verdict"), [(-11.0, "holds"), (-15.0, "does not hold")])
def test_reuse_is_judged_by_what_is_left_of_the_gain(frozen, verdict):
    by_layer = {"layer1": 1.0, "layer2": 0.9, "head": 0.5}
    change = Change(by_layer, by_layer, by_layer, by_layer, by_layer, {"layer1": 2.0, "layer2": 2.0, "head": 2.0}, 3)
    probe = PolicyProbe(change, [[-20.0, -10.0], [-20.0, -10.0], [-20.0, frozen]])
    panels = move_panels({Asked("2D-Navigation", "MAML", 0): probe})
    kept = panels[-1].series[0]
    assert kept.y == pytest.approx((1, 1, (frozen + 20) / 10))
    assert panels[2].series[0].y == (0.5, 0.45, 0.25)
    assert judge(REUSE.claims[0], Panels(panels)) == verdict


def test_curves_without_answers_are_empty():
    assert all(not panel.series for panel in curve_panels({}))


@pytest.mark.slow
def test_all_of_it_at_the_smallest_scale(tmp_path, monkeypatch):
    pytest.importorskip("mujoco.batch", reason="needs mujoco 3.17 or later")
    monkeypatch.chdir(tmp_path)
    first = call("rl", "paper", "run", "--scale", "smoke", "--device", "cpu")
    assert first.code == 0, first.err
    assert "12 of the 12 runs they need are left" in first.err
    assert call("rl", "paper", "report").code == 0
    markdown = (tmp_path / "rl-paper-report" / "report.md").read_text()
    assert "not measured yet" not in markdown
    assert all(exhibit.title in markdown for exhibit in STUDY.exhibits)
    measured = [json.loads(path.read_text()) for path in Path("runs/rl-paper/measured").glob("returns-*.json")]
    assert len(measured) == 12
    assert {answer["answer"]["tasks"] for answer in measured} == {4}
    assert Returns(training(STUDY.scale("smoke"), Asked("2D-Navigation", "MAML", 0))).runs[0].horizon == 8
