"""The program for the minutes of a GPU, rehearsed on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def session(out: Path, minutes: float) -> str:
    words = [sys.executable, "tools/gpu_session.py", "--rehearse", "--minutes", str(minutes), "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return ran.stdout


def test_a_rehearsal_that_was_cut_off_goes_on_elsewhere_and_ends_in_a_table(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    session(first, 0.4)  # cut off in the middle, but on a very fast machine
    begun = json.loads((first / "session.json").read_text())
    second.mkdir()
    (first / "session.tar").rename(second / "session.tar")  # all that has travelled
    said = session(second, 20)
    assert "all is trained" in said
    (device,) = json.loads((second / "session.json").read_text())["devices"].values()
    assert device["checks"]["well"]
    assert not [row for row in device["rows"] if row["failed"]]
    assert len(device["rows"]) >= 9 * 3
    for known in begun["devices"].values():  # none of it was measured again
        assert device["rows"][: len(known.get("rows", ()))] == known.get("rows", [])
    runs = json.loads((second / "session.json").read_text())["runs"]
    table = (second / "table.md").read_text()
    assert len(runs) == 6
    assert all(name in table for name in runs)
    with tarfile.open(second / "session.tar") as archive:
        names = archive.getnames()
    assert all(f"runs/{name}/best.safetensors" in names for name in runs)
    assert (second / "session.tar").stat().st_size < 8 * 2**20
