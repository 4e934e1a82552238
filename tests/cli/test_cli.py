"""What the user types: results on stdout, all else on stderr, mistakes in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from tiny import call, complaint, options

import innerloop
from innerloop import evaluation
from innerloop.classifier import FewShotClassifier
from innerloop.cli import errors as console
from innerloop.data import DataSet, load
from innerloop.data.labelled import read_folder
from innerloop.runs import images
from innerloop.runs.checkpoint import load_checkpoint, save_checkpoint
from innerloop.runs.presets import PRESETS

RUN = [*options(), "--device", "cpu"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return tiny.pictures(tmp_path_factory.mktemp("pictures") / "shapes")


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory) -> Path:
    """The folder of a MAML run."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(out.parent / "cache"))
        assert call("train", pictures, "--out", out, *RUN, "--algorithm", "maml").code == 0
    return out


def evaluated(*arguments: object) -> dict:
    outcome = call("evaluate", *arguments, "--json", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


# train


def test_train_prints_results_on_stdout_and_the_rest_on_stderr(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = call("train", pictures, *RUN, "--iterations", 2)
    assert outcome.code == 0
    results = outcome.out.splitlines()
    assert [line.split()[0] for line in results] == ["anil", "nil"]
    assert all(line.endswith("%  (6 episodes, statistics: query)") for line in results)
    (out,) = (tmp_path / "runs").iterdir()
    assert out.name.startswith("shapes-3way-1shot-anil-seed0-")
    assert f"trained network: runs/{out.name}/best.safetensors (iteration 2)" in outcome.err
    assert {path.name for path in out.iterdir()} == {
        ".lock", "spec.json", "metrics.jsonl", "last.safetensors", "best.safetensors", "result.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_train_starts_from_the_preset(name, monkeypatch):
    seen = []
    monkeypatch.setattr(images, "train_images", lambda spec, *_: seen.append(spec) or {"test": {}, "best_at": 0})
    assert call("train", name).code == 0
    assert call("train", name, "--lr", "0.123", "--norm-scale", "--clip", "None").code == 0
    plain, changed = seen
    assert plain == PRESETS[name]
    assert (changed.inner.lr, changed.model.norm_scale, changed.outer.clip) == (0.123, True, None)
    assert changed.outer.meta_lr == plain.outer.meta_lr


def test_a_folder_is_known_by_its_whole_path(pictures, tmp_path, monkeypatch):
    """However it is spelled, wherever the command is given, and whatever data set has the same name."""
    seen = []
    monkeypatch.setattr(images, "train_images", lambda spec, *_: seen.append(spec) or {"test": {}, "best_at": 0})
    monkeypatch.chdir(pictures.parent)
    for spelled in (pictures, "shapes", "./shapes", "shapes/"):
        assert call("train", spelled).code == 0
    assert {spec.problem.data for spec in seen} == {str(pictures.resolve())}
    (tmp_path / "glyphs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call("train", "glyphs").code == 0
    assert seen[-1].problem.data == str((tmp_path / "glyphs").resolve())
    said = complaint(call("train", "glyphs-5way-1shot", "--data", "omniglot"))
    assert said.startswith("glyphs-5way-1shot says what to train on, and --data omniglot something else")


def test_the_learning_rate_for_a_folder_goes_with_the_network_unless_it_is_given(pictures, monkeypatch):
    seen = []
    monkeypatch.setattr(images, "train_images", lambda spec, *_: seen.append(spec) or {"test": {}, "best_at": 0})
    for more in ((), ("--size", 28), ("--size=128",), ("--size", 28, "--lr", 0.016)):
        assert call("train", pictures, *more).code == 0
    assert [spec.inner.lr for spec in seen] == [0.016, 0.4, 0.0063, 0.016]
    assert "too small" in complaint(call("train", pictures, "--size", 9))


def test_what_to_train_comes_first():
    """The preset's settings are the defaults of the options: it must not be taken for granted before it is read."""
    said = complaint(call("train", "--way", 3, "omniglot-20way-1shot"))
    assert said == "what to train comes first: innerloop train WHAT --way 3 omniglot-20way-1shot"


def test_a_run_in_its_default_folder_can_be_made_longer(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for iterations in (6, 12):
        assert call("train", pictures, *RUN, "--iterations", iterations).code == 0
    assert call("train", pictures, *RUN, "--iterations", 12, "--out", "at once").code == 0
    (out,) = Path("runs").iterdir()
    tiny.same_run(out, Path("at once"))


def test_a_run_remembers_where_its_data_lay(pictures, tmp_path, monkeypatch):
    """Going on, evaluate and probe look there, wherever they are called from, as long as it is there."""
    asked = []

    def opened(_: DataSet, **options: object):
        asked.append(options["source"])
        return load(pictures, size=20)

    monkeypatch.setattr(DataSet, "open", opened)
    (tmp_path / "here").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out, where = tmp_path / "run", str(tmp_path / "data")
    first = ("train", "omniglot-5way-1shot", "--out", out, *options(spatial_mean=True))
    assert call(*first, "--source", "../data").code == 0
    monkeypatch.chdir(tmp_path)
    longer = ("train", "omniglot-5way-1shot", "--out", out, *options(spatial_mean=True, iterations=9))
    few = ("--episodes", 2, "--query", 4, "--device", "cpu")
    assert call(*longer).code == 0
    assert call("evaluate", out, *few).code == call("probe", out, *few).code == 0
    assert asked == ["../data", where, where, where]
    assert call("evaluate", out, *few, "--data", "omniglot").code == 0
    assert asked.pop() == where, "its own data"
    assert call("evaluate", out, *few, "--source", "elsewhere").code == 0
    assert call("evaluate", out, *few, "--data", "mini-imagenet").code == 0
    (tmp_path / "data").rmdir()
    assert call("evaluate", out, *few).code == 0
    assert asked[4:] == ["elsewhere", None, None]


def test_the_source_of_a_run_may_move(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(DataSet, "open", lambda *_, **__: load(pictures, size=20))
    out, words = tmp_path / "run", ("train", "omniglot-5way-1shot", "--out", tmp_path / "run")
    for name, iterations in (("there", 7), ("here", 8)):
        (tmp_path / name).mkdir()
        assert call(*words, *options(spatial_mean=True, iterations=iterations), "--source", tmp_path / name).code == 0
        best, last = (load_checkpoint(out / f"{file}.safetensors").metadata for file in ("best", "last"))
        assert best["source"] == last["problem"]["source"] == str(tmp_path / name)
    FewShotClassifier.load(out).fit(*read_folder(pictures / "test")).save(tmp_path / "mine.safetensors")
    assert "source" not in load_checkpoint(tmp_path / "mine.safetensors").metadata


def test_the_version():
    assert call("--version") == (0, f"innerloop {innerloop.__version__}\n", "")


def test_a_message_speaks_of_its_own_command(run):
    assert complaint(call("evaluate", run, "--iterations", 3)) == (
        "Unrecognized options: --iterations, 3. For full helptext, run innerloop evaluate --help"
    )


def test_a_finished_run_says_so(run, pictures):
    words = ("train", pictures, *RUN, "--algorithm", "maml", "--out", run)
    said = call(*words).err.splitlines()
    assert said[0].endswith(f" iterations in {run}, done before")
    assert not said[1].startswith("images in")


@pytest.mark.parametrize("lost", ["train/*/*.png", "train/*", "train"])  # an image, a class, what lies at the top
def test_a_finished_run_says_that_its_images_have_changed(lost, tmp_path):
    pictures = tiny.pictures(tmp_path / "shapes")
    out, words = tmp_path / "run", ("train", pictures, *RUN, "--algorithm", "maml", "--out", tmp_path / "run")
    assert call(*words).code == 0
    taken = next(pictures.glob(lost))
    taken.unlink() if taken.is_file() else shutil.rmtree(taken)
    later = (out / "result.json").stat().st_mtime + 5
    os.utime(taken.parent, (later, later))
    assert call(*words).err.splitlines()[1] == (
        f"images in {pictures} have changed since: another --out learns all of them; more --iterations here go on with "
        "the classes that this run began with, and with what was added to train/"
    )


# evaluate


def test_evaluate_repeats_the_test_of_the_run(run):
    test = json.loads((run / "result.json").read_text())["test"]
    assert evaluated(run) == test["maml"]
    assert evaluated(run / "best.safetensors", "--predictor", "nil") == test["nil"]


def test_one_episode_has_no_spread(run):
    outcome = call("evaluate", run, "--episodes", 1, "--device", "cpu")
    assert "±" not in outcome.out + outcome.err
    assert outcome.err.endswith(" (1 episode, statistics: query)\n")


def test_a_run_without_a_validation_is_said(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    for name in ("best.safetensors", "result.json"):
        (out / name).unlink()
    said = f"the run {out} has not been validated yet: give its train command again to go on"
    assert complaint(call("evaluate", out)) == said


def test_evaluate_as_text(run):
    outcome = call("evaluate", run, "--steps", 2, "--device", "cpu")
    lines = outcome.out.splitlines()
    assert [line[:8] for line in lines] == [" 0 steps", " 1 steps", " 2 steps"]
    assert all(line.endswith("%") for line in lines)
    assert "3-way 1-shot on shapes/test, 2 queries a class: " in outcome.err
    assert outcome.err.rstrip().endswith("(6 episodes, statistics: query)")


def test_freezing_what_does_not_adapt_is_said(run, pictures, tmp_path):
    anil = tmp_path / "anil"
    assert call("train", pictures, "--out", anil, *RUN, "--algorithm", "anil").code == 0
    said = call("evaluate", anil, "--freeze", "block1", "block2", "--device", "cpu").err
    assert "block1: the inner loop of this run changes nothing there, frozen or not\nblock2: the inner" in said
    assert "changes nothing" not in call("evaluate", run, "--freeze", "block1", "--device", "cpu").err


def test_evaluate_freezes_layers(run):
    head = evaluated(run, "--freeze", "block1", "block2", "block3", "block4")["per_step"]
    nothing = evaluated(run, "--freeze", "block1", "block2", "block3", "block4", "head")["per_step"]
    everything = evaluated(run)["per_step"]
    assert head[0] == nothing[0] == everything[0]
    assert len(set(nothing)) == 1
    assert len(set(head)) > 1


def test_evaluate_prints_json_where_there_is_no_interval(run):
    printed = call("evaluate", run, "--episodes", 1, "--json", "--device", "cpu").out
    assert json.loads(printed, parse_constant=pytest.fail)["interval"] is None


def test_evaluate_takes_the_file_of_a_classifier(run, pictures, tmp_path):
    FewShotClassifier.load(run).fit(*read_folder(pictures / "test")).save(tmp_path / "mine.safetensors")
    assert evaluated(tmp_path / "mine.safetensors") == evaluated(run)


@pytest.mark.parametrize("statistics", ["support", "image"])
def test_evaluate_says_whose_statistics_normalised(statistics, run):
    assert evaluated(run, "--statistics", statistics)["statistics"] == statistics


def test_evaluate_takes_other_episodes(run, tmp_path):
    other = tiny.pictures(tmp_path / "other", each=7)
    assert evaluated(run, "--part", "train", "--episodes", 8)["episodes"] == 8
    assert evaluated(run, "--shot", 2, "--query", 3)["episodes"] == 6
    assert evaluated(run, "--predictor", "nil", "--way", 2)["accuracy"] > 0.2
    assert evaluated(run, "--data", other, "--query", 5)["episodes"] == 6
    assert "on other/test, 5 queries" in call("evaluate", run, "--data", other, "--query", 5).err


@pytest.mark.parametrize("command", ["evaluate", "probe"])
def test_grey_images_are_taken_as_the_network_takes_them(command, run, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grey = tmp_path / "grey"
    shutil.copytree(pictures, grey)
    for path in grey.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    few = ("--episodes", 2, "--query", 4, "--device", "cpu")
    assert call(command, run, "--data", grey, *few).code == 0
    splits = load(grey, size=20)
    assert splits.test.shape == (1, 20, 20)
    monkeypatch.setattr("innerloop.runs.sources.open_data", lambda *_, **__: splits)
    said = complaint(call(command, run, "--data", "glyphs", *few))
    assert said == "the network takes images of (3, 20, 20) (c, h, w), grey/test has (1, 20, 20)"


def test_mistakes_in_evaluate(run):
    for arguments, said in (
        (["--way", 2], "the head has 3 outputs, not 2: leave --way out or use --predictor nil"),
        (
            ["--freeze", "block9"],
            "there is no layer 'block9' to freeze; there are block1, block2, block3, block4, head",
        ),
        (["--shot", 0], "shot must be at least 1, got 0"),
        (["--query", 0], "query must be at least 1, got 0"),
        (["--episodes", 0], "count must be at least 1, got 0"),
        (["--steps", -1], "test_steps must not be negative, got -1"),
        (["--shot", 9], "3 of the 3 classes of shapes/test have fewer than the 11 images"),
        (["--predictor", "nil", "--way", 9], "shapes/test has 3 classes, too few for 9-way episodes"),
        (["--data", "nowhere"], f"there is no data set and no folder '{Path.cwd() / 'nowhere'}'"),
    ):
        assert complaint(call("evaluate", run, *arguments)).startswith(said)


# classify


def test_classify_as_text_and_json(run, pictures):
    images = [pictures / "test" / f"test{label}" / "4.png" for label in (2, 0)]
    outcome = call("classify", run, *images, "--support", pictures / "test")
    assert outcome.code == 0
    lines = [line.split("  ") for line in outcome.out.splitlines()]
    assert [line[0] for line in lines] == [str(image) for image in images]
    assert all(sorted(part.split()[0] for part in line[1:]) == ["test0", "test1", "test2"] for line in lines)

    answers = json.loads(call("classify", run, *images, "--support", pictures / "test", "--json").out)
    for answer, image, line in zip(answers, images, lines, strict=True):
        assert answer["image"] == str(image)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get) == line[1].split()[0]
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert "confidence" not in outcome.err
    nil = call("classify", run, *images, "--support", pictures / "test", "--method", "nil")
    assert nil.err == "3 classes by their features alone (NIL): shares rank the classes and are no confidence\n"


def test_classify_takes_folders_of_images(run, pictures, tmp_path):
    support, one = pictures / "test", pictures / "test" / "test0" / "0.png"
    outcome = call("classify", run, support, one, "--support", support)
    named = [line.split("  ")[0] for line in outcome.out.splitlines()]
    assert named == [str(path) for path in [*sorted(support.rglob("*.png")), one]]
    (tmp_path / "empty").mkdir()
    said = complaint(call("classify", run, tmp_path / "empty", "--support", support))
    assert said == f"there are no images in {tmp_path / 'empty'}"


def test_one_bad_image_does_not_cost_the_answers_for_the_others(run, pictures, tmp_path):
    support, good = pictures / "test", pictures / "test" / "test0" / "0.png"
    (tmp_path / "a.png").write_bytes(good.read_bytes()[:60])
    shutil.copy(good, tmp_path / "b.png")
    alone = json.loads(call("classify", run, good, "--support", support, "--json").out)
    outcome = call("classify", run, tmp_path, "--support", support, "--json")
    (answer,) = json.loads(outcome.out)
    assert answer == alone[0] | {"image": str(tmp_path / "b.png")}
    assert outcome.code == 1
    assert f"{tmp_path / 'a.png'} cannot be read" in outcome.err
    assert outcome.err.endswith("; of the other 1 the answers are above\n")


def test_mistakes_in_classify(run, pictures, tmp_path):
    image, support = pictures / "test" / "test0" / "0.png", pictures / "test"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:60])
    for arguments, said in (
        ([image, "--support", tmp_path / "nowhere"], f"there is no folder {tmp_path / 'nowhere'}"),
        ([image, "--support", tmp_path / "empty"], f"{tmp_path / 'empty'} has no classes"),
        ([image, "--support", support / "test0"], f"{support / 'test0'} has no classes: its images lie directly in it"),
        ([image, "--support", image], f"{image} is a file"),
        ([tmp_path / "nowhere.png", "--support", support], f"there is no image {tmp_path / 'nowhere.png'}"),
        ([tmp_path / "broken.png", "--support", support], f"{tmp_path / 'broken.png'} cannot be read"),
        (["--support", support], "no images to classify"),
        ([image, "--support", pictures / "train", "--method", "head"], "5 classes, but the head has 3 outputs"),
        ([image], "Missing from innerloop classify: --support PATH"),
    ):
        assert complaint(call("classify", run, *arguments)).startswith(said)


# checkpoints


@pytest.mark.parametrize("command", ["evaluate", "classify"])
def test_checkpoints_that_are_none(command, run, pictures, tmp_path):
    best, path = run / "best.safetensors", tmp_path / "best.safetensors"
    more = [pictures / "test" / "test0" / "0.png", "--support", pictures / "test"] if command == "classify" else []

    def said(given: Path) -> str:
        return complaint(call(command, given, *more))

    assert said(tmp_path / "no where").startswith(f"there is no checkpoint {tmp_path / 'no where'}; a run's folder")
    assert said(tmp_path).startswith(f"there is no checkpoint {path}")
    assert said(run / "last.safetensors") == (
        f"{run / 'last.safetensors'} holds the state of a run, not a trained network; use best.safetensors beside it"
    )
    path.write_bytes(best.read_bytes()[:-5])
    assert said(path).startswith(f"{path} is cut off or not a checkpoint of innerloop")
    path.write_text("hello")
    assert said(path).startswith(f"{path} is cut off or not a checkpoint of innerloop")
    tensors, metadata = load_checkpoint(best)
    save_checkpoint(path, {**tensors, "head.weight": torch.zeros(7, 16)}, metadata)
    assert said(path).startswith(f"{path} belongs to another network: 1 of its tensors do not fit, first 'head.weight'")
    save_checkpoint(path, tensors, {**metadata, "spec": {**metadata["spec"], "colour": 1}})
    assert said(path) == (
        f"{path} cannot be used (unknown settings colour: written by another version of innerloop): train again, or "
        "use the innerloop that wrote it"
    )


# data


def test_data(pictures, tmp_path):
    listed = call("data", "list")
    assert listed.code == 0
    assert all(name in listed.out for name in PRESETS)

    checked = call("data", "check", pictures, "--size", 20, "--way", 3, "--shot", 1, "--query", 2)
    rows = [line.replace("│", " ").split() for line in checked.out.splitlines() if "3x20x20" in line]
    assert rows == [["train", "5", "25", "5", "1", "3x20x20"], ["val", "3", "15", "5", "1", "3x20x20"],
                    ["test", "3", "15", "5", "1", "3x20x20"]]  # fmt: skip

    sheet = call("data", "sheet", pictures, "--size", 20, "--part", "val", "--out", tmp_path / "sheet.png")
    assert sheet.code == 0
    assert f"wrote {tmp_path / 'sheet.png'}" in sheet.err
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 20 * 5


def test_mistakes_in_data(tmp_path):
    assert complaint(call("data", "check")) == "which data? Give one of glyphs, omniglot, mini-imagenet, or a folder"
    assert complaint(call("data", "check", "nowhere")).startswith("there is no data set and no folder 'nowhere'")
    nowhere = tmp_path / "nowhere"
    assert complaint(call("data", "check", "omniglot", "--source", nowhere)) == (
        f"no images_background or images_background.zip in {nowhere}; expected a folder that holds both of "
        "images_background and images_evaluation, extracted or as zips. Leave the source out to download them."
    )
    assert complaint(call("data", "check", "mini-imagenet", "--source", nowhere)).startswith(
        f"no folder {nowhere} with mini-ImageNet. Expected train/, val/ and test/ with one folder a class, or"
    )
    assert complaint(call("data", "chekc", "glyphs")).startswith("invalid choice 'chekc' for argument '")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "check", "glyphs", "--source", "x"], "'glyphs' takes no source, only size: leave it out"),
        (["data", "check", "glyphs", "--split", "x"], "'glyphs' takes no split, only size: leave it out"),
        (["data", "check", "glyphs", "--skip-bad"], "'glyphs' takes no skip_bad, only size: leave it out"),
        (["data", "check", "mini-imagenet", "--skip-bad"], "'mini-imagenet' takes no skip_bad, only source, size: "),
        (["train", "glyphs-5way-1shot", "--skip-bad"], "'glyphs' takes no skip_bad, "),
        (["train", "glyphs-5way-1shot", "--split", "official"], "'glyphs' takes no split, "),
    ],
)
def test_options_that_the_data_does_not_take(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint(call(*arguments)).startswith(said)


@pytest.mark.parametrize(("name", "first"), [("omniglot", "images_background.zip"), ("mini-imagenet", "train.zip")])
def test_a_truncated_zip_is_named(name, first, tmp_path):
    for archive in ("images_background.zip", "images_evaluation.zip", "train.zip", "val.zip", "test.zip"):
        path = tmp_path / archive
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a/b/c.png", bytes(1000))
        path.write_bytes(path.read_bytes()[:500])
    assert complaint(call("data", "check", name, "--source", tmp_path)) == (
        f"{tmp_path / first} is cut off or no zip (File is not a zip file): copy or download it again"
    )


# folders with faults


def test_a_corrupt_image_is_named_and_can_be_skipped(pictures, tmp_path):
    folder = tmp_path / "shapes"
    shutil.copytree(pictures, folder)
    bad = folder / "train" / "train1" / "2.png"
    bad.write_bytes(bad.read_bytes()[:80])
    command = ["train", folder, "--out", tmp_path / "run", *RUN, "--iterations", 1]
    said = complaint(call(*command))
    assert said.startswith("shapes cannot be used as it is: train1/2.png (")
    assert "--skip-bad" in said

    with pytest.warns(UserWarning, match=r"^shapes: left out train1/2\.png \("):
        assert call(*command, "--skip-bad").code == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["--way", 4],
            "shapes has 11 classes, split 5/3/3 into train/val/test; 4-way needs 4 in each: lower --way or ",
        ),
        (
            ["--way", 6],
            "shapes has 11 classes, split 5/3/3 into train/val/test; 6-way needs 6 in each: lower --way or ",
        ),
        (["--shot", 4], "5 of the 5 classes of shapes/train have fewer than the 6 images that 4 shots and 2 queries"),
        (["--test-query", 5], "3 of the 3 classes of shapes/test have fewer than the 6 images"),
        (["--split", "nowhere.csv"], f"there is no split file {Path.cwd() / 'nowhere.csv'}"),
        (["--size", 2, "--pooling", "max"], "images of 2 pixels are too small"),
        (["--adapt", "block7.*"], "adapt pattern 'block7.*' matches no parameter"),
        (["--device", "cuda:99"], "no device 'cuda:99' here"),
        *(
            (["--device", name], f"no device '{name}' here; use --device cpu, cuda, or cuda:N for one of several")
            for name in ("banana", "mps", "meta", "cuda:x")
        ),
        (["--size", 12, "--network", "resnet12"], "images of 12 pixels are too small for 4 poolings by 2"),
        (["--test-query", 0], "test_query must be at least 1, got 0"),
        (["--chunk-size", 0], "chunk_size must be a whole number from 1"),
        (["--source", "x"], "takes no source, only fractions, "),
        (["--clip", -1], "clip must be above 0, got -1.0"),
        (["--way", 0], "way must be at least 1, got 0"),
        (["--head-std", 0], "head_std must be above 0, got 0.0"),
    ],
)
def test_settings_that_do_not_fit(changes, said, pictures, tmp_path):
    assert said in complaint(call("train", pictures, "--out", tmp_path / "run", *RUN, *changes))


def test_a_small_folder_is_split_for_the_ways(pictures, tmp_path):
    flat = tmp_path / "flat"
    for part in pictures.iterdir():  # 11 classes, of which the fractions leave 7/2/2
        shutil.copytree(part, flat, dirs_exist_ok=True)
    out = tmp_path / "run"
    assert call("train", flat, "--out", out, *RUN, "--iterations", 1).code == 0
    checked = call("data", "check", flat, "--size", 20, "--way", 3, "--shot", 1, "--query", 2).out.replace("│", " ")
    assert [line.split()[1] for line in checked.splitlines() if "3x20x20" in line] == ["5", "3", "3"]
    assert complaint(call("evaluate", out, "--predictor", "nil", "--way", 4)).startswith("flat/test has 3 classes")
    assert complaint(call("train", flat, "--out", tmp_path / "run2", *RUN, "--way", 5)) == (
        "flat has 11 classes, split 7/2/2 into train/val/test; 5-way needs 5 in each: lower --way or give --split FILE"
    )


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert complaint(call("train", tmp_path / "empty", "--out", tmp_path / "run")).startswith(
        f"{tmp_path / 'empty'} has no classes"
    )
    assert complaint(call("train", tmp_path / "file", "--out", tmp_path / "run2")).startswith(
        f"{tmp_path / 'file'} is a file"
    )


# the command line itself


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Expected one of {demo, train, evaluate, classify, probe, data, cache, paper"),
        (["trian"], "there is no command 'trian'. There are: demo, train, "),
        (["train"], "Missing from innerloop train: WHAT"),
        (["train", "omniglot-20way"], "there is no preset 'omniglot-20way'. There are: omniglot-20way-1shot, "),
        (["train", ""], "there is no preset ''"),
        (["train", "glyphs-5way-1shot", "--iteration", "3"], "Unrecognized options: --iteration, 3. Perhaps you meant"),
        (["train", "glyphs-5way-1shot", "--way", "x"], "Error parsing --way: invalid literal for int()"),
        (["train", "glyphs-5way-1shot", "extra"], "Unrecognized options: extra"),
        (["train", "glyphs-5way-1shot", "--way"], "Missing value for argument '--way'"),
        (["evaluate", "x", "--statistics", "foo"], "invalid choice 'foo' for argument '--statistics'"),
        (["evaluate"], "Missing from innerloop evaluate: PATH"),
    ],
)
def test_a_command_line_that_is_none(arguments, said):
    assert complaint(call(*arguments)).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["rl", "tran"], "train"),
        (["train", "omniglot-20way-1shto"], "omniglot-20way-1shot"),
        (["data", "check", "omniglto"], "omniglot"),
    ],
)
def test_a_mistyped_name_asks_for_the_nearest(arguments, meant):
    assert complaint(call(*arguments)).partition("Did you mean ")[2].startswith(f"'{meant}'?")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], ["demo", "train", "evaluate", "classify", "data"]),
        (["train"], ["WHAT", *PRESETS, "--lr FLOAT", "--checkpoint-seconds", "--out"]),
        (["train", "omniglot-20way-1shot"], ["(default: 2.0)", "(default: 30000)"]),
        (["evaluate"], ["--predictor {own,nil}", "--freeze", "--statistics {None,query,support,image}", "--json"]),
        (
            ["classify"],
            ["--support PATH", "--method {auto,head,nil}", "(default: support)", "there is (default: auto)"],
        ),
        (["data"], ["{list,prepare,check,sheet}", "--part {train,val,test}"]),
        (["demo"], ["--out PATH", "--device"]),
    ],
)
def test_help(arguments, shown):
    outcome = call(*arguments, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.replace("│", " ").split())
    assert not [part for part in shown if part not in text]
    assert "__tyro" not in text
    assert "see below" not in text


def test_the_traceback_is_there_for_who_wants_it(monkeypatch):
    monkeypatch.setenv("INNERLOOP_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        call("evaluate", "nowhere")


def test_a_full_gpu_is_said_in_one_line():
    assert console.explain(torch.OutOfMemoryError("CUDA out of memory.\n Tried")) == (
        "the GPU's memory is full; use fewer tasks at once: --chunk-size 1"
    )


@pytest.mark.parametrize("greedy", [lambda: torch.empty(2**48), lambda: [0] * 2**58])
def test_a_full_memory_is_said_in_one_line(greedy, run, monkeypatch):
    """PyTorch has no error of its own for it on a CPU: what its message says is read."""
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: greedy())
    assert complaint(call("evaluate", run)) == (
        "the memory is full; use fewer tasks at once, --chunk-size 1, or smaller meta batches, --meta-batch 1"
    )


def test_a_fault_of_the_program_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        call("evaluate", run)


def test_a_reader_who_has_seen_enough_is_no_mistake():
    """As `innerloop data list | head -0`; the one test here that needs a process of its own."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "innerloop", "data", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_tilde_is_home_in_every_path(run, pictures, monkeypatch):
    """Whatever the shell made of it, as in --out=~/run."""
    monkeypatch.setenv("HOME", str(run.parent))
    few = ("--episodes", 2, "--device", "cpu")
    assert call("evaluate", f"~/{run.name}", *few).code == 0
    shutil.copytree(pictures / "test", run.parent / "support", dirs_exist_ok=True)
    assert call("classify", f"~/{run.name}", "~/support/test0/0.png", "--support", "~/support").code == 0
    assert call("train", pictures, "--out=~/again", *RUN, "--iterations", 1).code == 0
    assert (run.parent / "again" / "result.json").exists()
    assert innerloop.load(f"~/{run.name}").spec.inner.algorithm == "maml"
