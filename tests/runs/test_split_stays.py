"""A folder that gets or loses classes after a run has begun: what was trained on is never tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from PIL import Image
from tiny import call, complaint, options

from innerloop.data import known
from innerloop.runs.checkpoint import load_checkpoint

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
    real = known._load
    monkeypatch.setattr(known, "_load", lambda *args: seen.append(real(*args)) or seen[-1])
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
    metadata = load_checkpoint(out / "best.safetensors").metadata
    assert [tuple(names) for names in metadata["classes"].values()] == parts(opened[0])


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_is_gone_is_named(part, flat, tmp_path, opened):
    out = tmp_path / "run"
    assert train(flat, out, iterations=3).code == 0
    gone = getattr(opened[0], part).classes[0]
    shutil.rmtree(flat / gone)
    for again in (train(flat, out, iterations=6), call("evaluate", out, *FEW), call("probe", out, *FEW)):
        said = "shapes lacks classes that this run was trained, validated or tested on, or they were left out: "
        assert said + gone in complaint(again)


def test_a_class_that_moves_from_training_to_the_test_is_refused(tmp_path):
    data, out = tiny.pictures(tmp_path / "shapes", each=6), tmp_path / "run"
    assert train(data, out, iterations=3).code == 0
    shutil.move(data / "train" / "train1", data / "test" / "train1")
    for again in (train(data, out, iterations=6), call("evaluate", out, *FEW)):
        said = "has classes to validate or test that this run was trained or validated on: train1. Put them back"
        assert said in complaint(again)


def test_a_class_that_was_added_to_train_on_is_not_tested_later(tmp_path):
    data, out = tiny.pictures(tmp_path / "shapes", each=6), tmp_path / "run"
    assert train(data, out, iterations=3).code == 0
    shutil.copytree(data / "train" / "train1", data / "train" / "new")
    assert train(data, out, iterations=6).code == 0
    shutil.move(data / "train" / "new", data / "test" / "new")
    assert "trained or validated on: new. Put" in complaint(call("evaluate", out, *FEW))


def test_a_class_that_chose_the_checkpoint_is_not_tested(tmp_path):
    data, out = tiny.pictures(tmp_path / "shapes", each=6), tmp_path / "run"
    assert train(data, out, iterations=3).code == 0
    shutil.copytree(data / "val" / "val0", data / "val" / "val9")
    shutil.move(data / "val" / "val0", data / "test" / "val0")
    assert "trained or validated on: val0. Put" in complaint(call("evaluate", out, *FEW))


def test_its_own_folder_as_other_data_is_its_own(flat, tmp_path, opened, monkeypatch):
    out = tmp_path / "run"
    assert train(flat, out, iterations=3).code == 0
    for number in range(4):
        shutil.copytree(flat / "train0", flat / f"another{number}")
    monkeypatch.chdir(flat.parent)
    for spelled in (flat, flat.name, f"./{flat.name}/"):
        assert call("evaluate", out, "--data", spelled, *FEW).code == 0
        assert parts(opened[-1]) == parts(opened[0])
    shutil.move(flat, tmp_path / "moved")
    with pytest.warns(UserWarning, match="of the 3 classes of moved/test are called as classes that this run"):
        call("evaluate", out, "--data", tmp_path / "moved", *FEW)


def test_a_split_file_is_found_from_elsewhere(flat, tmp_path, monkeypatch, opened):
    classes = sorted(path.name for path in flat.iterdir())
    split = {"train": classes[:4], "val": classes[4:7], "test": classes[7:]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    monkeypatch.chdir(tmp_path)
    assert train(flat, tmp_path / "run", iterations=3, split="split.json").code == 0
    monkeypatch.chdir(flat)
    assert call("evaluate", tmp_path / "run", *FEW).code == 0
    assert call("evaluate", tmp_path / "run", "--data", flat, *FEW).code == 0
    assert parts(opened[0]) == parts(opened[1]) == parts(opened[2])


def test_a_colour_class_leaves_a_grey_run_grey(flat, tmp_path, opened):
    out = tmp_path / "run"
    for path in flat.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert train(flat, out, iterations=3).code == 0
    tiny.pictures(tmp_path / "colour", each=6)
    shutil.move(tmp_path / "colour" / "train" / "train0", flat / "colour")
    assert train(flat, out, iterations=6).code == 0
    assert call("evaluate", out, *FEW).code == 0
    assert [splits.test.shape[0] for splits in opened] == [1, 3, 1, 3, 1]  # as it is first, then as the network wants
