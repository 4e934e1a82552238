"""`innerloop rl`: train, evaluate, probe and watch a small policy; mistakes in one line."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from tiny import call, complaint

SMALL = ("--horizon", 8, "--hidden", 8, 8, "--meta-batch", 3, "--trajectories", 4, "--iterations", 2, "--test-tasks", 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("rl") / "run"
    said = call("rl", "train", "navigation", "--algorithm", "anil", "--out", out, *SMALL)
    assert said.code == 0
    assert "anil     after 0 steps  return -" in said.out
    assert "anil     after 1 steps  return -" in said.out
    assert "(3 tasks)" in said.out
    return out


def test_a_finished_run_says_its_result_again(run):
    again = call("rl", "train", "navigation", "--algorithm", "anil", "--out", run, *SMALL)
    assert again.code == 0
    assert "after 1 steps" in again.out


def test_evaluate(run, tmp_path):
    said = call("rl", "evaluate", run, "--tasks", 4, "--steps", 2, "--output", tmp_path / "scores.json")
    assert said.out.count("(4 tasks)") == 3
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [len(row) for row in scores["each"]] == [4, 4, 4]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_probe(run, tmp_path):
    said = call("rl", "probe", run, "--tasks", 3, "--output", tmp_path / "probe.json")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[1:4]] == ["layer1", "layer2", "head"]
    assert "first 2 layers frozen" in said.out
    probe = json.loads((tmp_path / "probe.json").read_text())
    assert probe["change"]["distance"]["layer1"] == 0  # ANIL
    assert len(probe["freezing"]) == 3


def test_watch(run, tmp_path):
    assert call("rl", "watch", run, "--output", tmp_path / "paths.png").code == 0
    with Image.open(tmp_path / "paths.png") as image:
        assert image.format == "PNG"


def test_mistakes_are_told_in_one_line(run, tmp_path):
    assert "no trained policy" in complaint(call("rl", "evaluate", tmp_path))
    assert "--threads must be at least 1" in complaint(call("rl", "evaluate", run, "--threads", 0))
    other = ("rl", "train", "navigation", "--algorithm", "maml", "--out", run, *SMALL)
    assert "holds a run with other settings" in complaint(call(*other))
