"""A folder that gets or loses classes after a run has begun: what was trained on is never tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from tiny import call, complaint, options

from innerloop.checkpoint import load_checkpoint
from innerloop.runs import execute

FEW = ("--episodes", 3, "--json", "--device", "cpu")


@pytest.fixture
def flat(tmp_path) -> Path:
    """Eleven classes, not split."""
    parted, root = tiny.pictures(tmp_path / "parted", each=6), tmp_path / "shapes"
    root.mkdir()
    for folder in parted.glob("*/*"):
        shutil.move(folder, root / folder.name)
    return root


@pytest.fixture
def opened(monkeypatch) -> list:
    """The splits that commands open."""
    seen = []
    real = execute.load
    monkeypatch.setattr(execute, "load", lambda *args, **how: seen.append(real(*args, **how)) or seen[-1])
    return seen


def train(data: Path, out: Path, **changes: object):
    return call("train", data, "--out", out, *options(device="cpu", **changes))


def parts(splits) -> list[tuple[str, ...]]:
    return [bank.classes for bank in splits]


def test_a_new_class_changes_no_part(flat, tmp_path, opened):
    out = tmp_path / "run"
    assert train(flat, out, iterations=3).code == 0
    shutil.copytree(flat / "train0", flat / "a new class")
    assert train(flat, out, iterations=6).code == 0
    score = call("evaluate", out, *FEW)
    assert score.code == 0, score.err
    assert json.loads(score.out)["episodes"] == 3
    assert parts(opened[0]) == parts(opened[1]) == parts(opened[2])
    about = load_checkpoint(out / "best.safetensors").about
    assert [tuple(names) for names in about["classes"].values()] == parts(opened[0])


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_is_gone_is_named(part, flat, tmp_path, opened):
    out = tmp_path / "run"
    assert train(flat, out, iterations=3).code == 0
    gone = getattr(opened[0], part).classes[0]
    shutil.rmtree(flat / gone)
    for again in (train(flat, out, iterations=6), call("evaluate", out, *FEW), call("probe", out, *FEW)):
        assert f"the split names classes that shapes lacks or that were left out: {gone}" in complaint(again)


def test_a_class_that_moves_from_training_to_the_test_is_refused(tmp_path):
    data, out = tiny.pictures(tmp_path / "shapes", each=6), tmp_path / "run"
    assert train(data, out, iterations=3).code == 0
    shutil.move(data / "train" / "train1", data / "test" / "train1")
    for again in (train(data, out, iterations=6), call("evaluate", out, *FEW)):
        assert "has classes to validate or test that this run was trained on: train1. Put them back" in complaint(again)
    assert call("evaluate", out, "--data", tiny.pictures(tmp_path / "other", each=6), *FEW).code == 0
