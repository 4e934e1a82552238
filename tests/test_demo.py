from __future__ import annotations

import json

import tiny
from PIL import Image

from innerloop import demo
from innerloop.cli.demo import DemoCommand
from innerloop.runs.config import Spec
from innerloop.runs.images import score_dict
from innerloop.runs.means import Compute

ROWS = [
    "MAML", "MAML, block 1 frozen", "MAML, block 1 to 2 frozen", "MAML, block 1 to 3 frozen", "MAML, body frozen",
    "ANIL", "NIL (ANIL's features)",
]  # fmt: skip


def test_the_demo_trains_tests_and_draws(tmp_path, monkeypatch, capsys):
    settings = {name.replace("-", "_"): value for name, value in tiny.SETTINGS.items()} | {"iterations": 4}
    spec = Spec().where(data=str(tiny.pictures(tmp_path / "shapes")), **settings)
    monkeypatch.setattr(demo, "preset", {"glyphs-5way-1shot": spec}.__getitem__)
    out = tmp_path / "a" / "demo"
    how = Compute(device="cpu")
    DemoCommand(out, how).run()
    results = json.loads((out / "demo.json").read_text())

    assert list(results) == ROWS
    assert all(0 <= row["accuracy"] <= 1 and row["episodes"] == 6 for row in results.values())
    runs = sorted(path for path in out.iterdir() if path.is_dir())
    assert [run.name.partition("-")[0] for run in runs] == ["anil", "maml"]
    tests = [json.loads((run / "result.json").read_text())["test"] for run in runs]
    assert results["ANIL"] == tests[0]["anil"]
    assert results["NIL (ANIL's features)"] == tests[0]["nil"]
    assert results["MAML"] == tests[1]["maml"]
    with Image.open(out / "demo.png") as picture:
        assert picture.size == (1650, 960)
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50

    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    assert all(name in shown for name in ROWS)
    assert "3 characters of 1 scripts never seen, 6 episodes" in words
    assert f"picture: {out / 'demo.png'}" in shown
    assert shown.splitlines()[-1].startswith("Freezing the body in the inner loop takes MAML from ")

    monkeypatch.setattr("innerloop.runs.images.meta_train", None)  # a second start trains nothing
    again = demo.demo(out, how)
    assert {name: score_dict(score) for name, score in again.scores.items()} == results
