"""`innerloop probe`: a table, a figure and one sentence; mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tiny
import torch
from PIL import Image
from tiny import call, complaint, options

from innerloop.data import load
from innerloop.reuse.probe import probe
from innerloop.runs.checkpoint import load_checkpoint, save_checkpoint
from innerloop.runs.images import test_stream as stream_of
from innerloop.runs.load import load as load_run

LAYERS = ["block1", "block2", "block3", "block4", "head"]
FEW = ("--episodes", 4, "--compared", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory) -> Path:
    """The folder of a run on the glyphs of a few scripts."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(out.parent / "cache"))
        tiny.few_scripts(patch)
        settings = options(size=14, iterations=3, query=5, spatial_mean=True, norm_scale=True)
        assert call("train", "glyphs-5way-1shot", "--algorithm", "maml", "--out", out, *settings).code == 0
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return tiny.pictures(tmp_path_factory.mktemp("pictures") / "shapes", each=12)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory) -> Path:
    """The folder of a run on a folder of pictures."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(out.parent / "cache"))
        assert call("train", pictures, "--out", out, *options(device="cpu"), "--algorithm", "maml").code == 0
    return out


@pytest.fixture(autouse=True)
def at_home(glyphs, tmp_path, monkeypatch) -> None:
    """Figures without a name go to a folder of their own, and the glyphs are few."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_CACHE", str(glyphs.parent / "cache"))
    tiny.few_scripts(monkeypatch)


def probed(*arguments: object) -> dict:
    outcome = call("probe", *arguments, *FEW, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize("columns", [66, 80, 200])
def test_the_table_is_whole_in_a_narrow_terminal(columns, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    found = probed(run)
    wanted = [f"{100 * score['accuracy']:.2f} ± {100 * score['interval']:.2f}" for score in found["freezing"]]
    rows = [line for line in call("probe", run, *FEW).out.splitlines() if line.startswith("│")]
    assert [row.strip("│ ").split("│")[-1].strip() for row in rows if "±" in row][:5] == wanted
    assert len({len(row) for row in rows}) == 1
    assert len(rows[0]) <= columns


def test_a_run_on_glyphs(glyphs, tmp_path):
    outcome = call("probe", glyphs, *FEW)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].strip() == "3-way 1-shot on glyphs/test, 4 episodes, 15 queries a class"
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == ["(none frozen)", *LAYERS, "(NIL: no head)"]
    assert all(0 <= float(cell) <= 1 for row in rows[1:-1] for cell in row[1:4])
    assert all("±" in row[-1] for row in rows if row[0] != "head")
    assert lines[-1].split(": ")[0] in ("Feature reuse", "Some of both", "Rapid learning", "Nothing learnt")
    assert lines[-1].endswith("%.")
    assert outcome.err.splitlines()[-1] == "figure: probe.png"
    with Image.open(tmp_path / "probe.png") as image:
        assert image.width > 2.5 * image.height, "three panels side by side"
        assert len(image.convert("RGB").getcolors(2**20)) > 20


def test_json_holds_what_the_library_finds(run):
    found = probed(run / "best.safetensors", "--out", "deep/er/figure.svg")
    assert found.keys() == {"layers", "freezing", "nil", "change", "verdict"}
    assert found["layers"] == LAYERS
    assert found["change"].keys() == {"cca", "cka", "distance", "permuted", "points", "tasks"}
    assert all(list(found["change"][key]) == LAYERS for key in ("cca", "cka", "distance", "points"))
    assert [score["episodes"] for score in found["freezing"]] == [4] * 5

    model, spec, *_ = load_run(run)
    bank = load(spec.problem.data, size=spec.problem.size).test
    streams = [stream_of(bank, spec.problem, count, 11) for count in (4, 2)]  # 12 images a class, one of them a shot
    want = probe(model, streams[0], spec.inner.test_rule(), compared=streams[1])
    assert found["verdict"] == want.verdict
    assert found["change"]["cca"] == want.change.cca
    assert found["nil"]["accuracy"] == want.nil.mean
    assert [score["accuracy"] for score in found["freezing"]] == [score.mean for score in want.freezing]


def test_the_figure_as_svg(run, tmp_path):
    outcome = call("probe", run, *FEW, "--out", "deep/er/figure.svg")
    assert "on shapes/test, 4 episodes, 11 queries a class" in outcome.out
    root = ElementTree.parse(tmp_path / "deep" / "er" / "figure.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == outcome.out.splitlines()[-1]
    assert "not found" not in outcome.err, "no font is missing"


def test_other_tasks(run, tmp_path):
    other = tiny.pictures(tmp_path / "other", each=9)
    assert probed(run, "--query", 7)["change"]["points"]["head"] == 21
    assert probed(run, "--shot", 3)["change"]["points"]["head"] == 27
    assert probed(run, "--part", "train")["change"]["points"]["head"] == 33
    assert probed(run, "--steps", 0)["change"]["distance"] == dict.fromkeys(LAYERS, 0.0)
    outcome = call("probe", run, "--data", other, *FEW)
    assert "3-way 1-shot on other/test, 4 episodes, 8 queries a class" in outcome.out


def test_a_figure_elsewhere_than_png_and_svg_is_refused_at_once():
    for name in ("probe.pdf", "probe", "probe.PNG"):
        assert complaint(call("probe", "nowhere", "--out", name)) == f"--out ends in .png or .svg, got {name}"


@pytest.mark.parametrize("algorithm", ["multitask", "nil"])
def test_training_without_an_inner_loop_has_nothing_to_probe(algorithm, pictures, tmp_path):
    settings = options(device="cpu", iterations=1, val_episodes=1, test_episodes=1, query=4)
    assert call("train", pictures, "--out", tmp_path / "run", *settings, "--algorithm", algorithm).code == 0
    said = complaint(call("probe", tmp_path / "run"))
    assert said == f"{algorithm} training has no inner loop to look into; give one with --algorithm maml"
    assert not (tmp_path / "probe.png").exists()
    found = probed(tmp_path / "run", "--algorithm", "maml", "--query", 4)
    assert found["change"]["distance"]["block1"] > 0
    assert not found["verdict"].startswith("Nothing to tell")


def test_mistakes(run, tmp_path):
    few = tiny.pictures(tmp_path / "few", each=2)
    for arguments, said in (
        (["nowhere"], "there is no checkpoint nowhere; a run's folder holds best.safetensors"),
        ([tmp_path], f"there is no checkpoint {tmp_path / 'best.safetensors'}"),
        ([run / "last.safetensors"], f"{run / 'last.safetensors'} holds the state of a run, not a trained network"),
        ([run, "--data", few, "--shot", 2], "3 of the 3 classes of few/test have fewer than the 3 images"),
        ([run, "--data", "nowhere"], f"there is no data set and no folder '{Path.cwd() / 'nowhere'}'"),
        ([run, "--shot", 0], "shot must be at least 1, got 0"),
        ([run, "--query", 0], "query must be at least 1, got 0"),
        ([run, "--episodes", 0], "count must be at least 1, got 0"),
        ([run, "--compared", 0], "count must be at least 1, got 0"),
        ([run, "--episodes", 1], "one episode says nothing about others"),
        ([run, "--steps", -1], "test_steps must not be negative, got -1"),
    ):
        assert complaint(call("probe", *arguments[:1], *FEW, *arguments[1:])).startswith(said)
        assert not (tmp_path / "probe.png").exists()


def test_too_few_images_for_a_comparison(run, tmp_path):
    few = tiny.pictures(tmp_path / "few", each=2)
    with pytest.warns(UserWarning, match="unrelated noise would score"):
        said = complaint(call("probe", run, *FEW, "--data", few))
    assert said.startswith("head cannot be compared on 3 query images a task: mean CCA of 3 and 3 channels got 3 data")


def test_a_network_that_diverged(run, tmp_path):
    tensors, metadata = load_checkpoint(run / "best.safetensors")
    save_checkpoint(tmp_path / "nan.safetensors", {n: x * torch.nan for n, x in tensors.items()}, metadata)
    assert "activations hold NaN" in complaint(call("probe", tmp_path / "nan.safetensors", *FEW))


def test_help():
    outcome = call("probe", "--help")
    assert outcome.code == 0
    for part in ("--compared INT", "--part {train,val,test}", "--out PATH", "--device", "--json"):
        assert part in outcome.out
