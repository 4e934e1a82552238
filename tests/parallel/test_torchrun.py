"""`innerloop train` under torchrun, as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def torchrun(size: int, *words: object) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    words = (*launcher, "-m", "innerloop", "train", *map(str, words))
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def settings(out: Path, **changes: object) -> list[str]:
    changes = {"meta_batch": 3, "algorithm": "maml", "lr": 0.05} | changes
    return [*tiny.options(**changes), "--device", "cpu", "--out", str(out)]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_of_two_processes_is_that_of_one_and_goes_on_with_three(tmp_path):
    pictures, alone, several = tiny.pictures(tmp_path / "pictures"), tmp_path / "alone", tmp_path / "several"
    assert tiny.call("train", pictures, *settings(alone)).code == 0
    out, said = torchrun(2, pictures, *settings(several, iterations=6)).communicate()
    assert (several / "result.json").exists(), said
    assert out.count("maml ") == 1, "one rank speaks"
    assert said.count("iterations in") == 1, said
    _, said = torchrun(3, pictures, *settings(several)).communicate()
    assert [line.keys() for line in metrics(several)] == [line.keys() for line in metrics(alone)]
    for ours, theirs in zip(metrics(several), metrics(alone), strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)
    weights = (tiny.tensors(folder / "last.safetensors") for folder in (several, alone))
    ours, theirs = weights
    assert ours.keys() == theirs.keys()
    for name in (name for name in ours if name.startswith("network.")):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_meta_batch_of_fewer_tasks_than_processes_is_one_line(tmp_path):
    pictures = tiny.pictures(tmp_path / "pictures")
    launched = torchrun(2, pictures, *settings(tmp_path / "run", meta_batch=1))
    _, said = launched.communicate()
    assert launched.returncode != 0
    lines = [line for line in said.splitlines() if line.startswith("innerloop: 2 processes")]
    assert lines == [
        "innerloop: 2 processes cannot share a meta batch of 1 task: use --nproc-per-node 1, or more tasks"
    ]


def test_sigterm_to_the_launcher_ends_in_a_state_that_goes_on(tmp_path):
    pictures, out = tiny.pictures(tmp_path / "pictures"), tmp_path / "run"
    launched = torchrun(2, pictures, *settings(out, iterations=20_000))
    end = time.monotonic() + 120
    while not (out / "best.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.1)
    launched.send_signal(signal.SIGTERM)
    _, said = launched.communicate(timeout=60)
    assert "stopped after iteration" in said, said
    assert (out / "last.safetensors").exists()
    assert not (out / "result.json").exists()
