"""Meta-RL runs: killed and started again they end in the same bits; results, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from innerloop.rl.config import Learning, Network, Settings, as_dict, from_dict
from innerloop.rl.options import Trpo
from innerloop.runs.checkpoint import load_checkpoint
from innerloop.runs.policies import MetaRl, evaluate_policy, load_policy, train_policy

SMALL = Settings(
    "navigation",
    horizon=8,
    network=Network(hidden=(8, 8)),
    learning=Learning(meta_batch=3, trajectories=4),
    iterations=4,
    test_tasks=3,
)

DIFFERENT = {"task": "cheetah-direction", "seed": 1, "iterations": 7, "horizon": 9}


def same(folder, other):
    for name in ("last", "best"):
        a, b = (load_checkpoint(f / f"{name}.safetensors").tensors for f in (folder, other))
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a)
    assert (folder / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


@pytest.mark.parametrize("algorithm", ["maml", "anil"])
def test_a_run_that_is_made_longer_ends_in_the_same_bits(tmp_path, algorithm):
    settings = replace(SMALL, learning=replace(SMALL.learning, algorithm=algorithm))
    whole = train_policy(settings, tmp_path / "whole")
    train_policy(replace(settings, iterations=2), tmp_path / "parts")
    parts = train_policy(settings, tmp_path / "parts")
    same(tmp_path / "whole", tmp_path / "parts")
    assert whole["test"] == parts["test"]


def test_what_a_run_says(tmp_path):
    result = train_policy(SMALL, tmp_path)
    scores = result["test"]["maml"]
    assert len(scores["returns"]) == len(scores["intervals"]) == 2
    assert len(scores["each"][0]) == scores["tasks"] == 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "return_after" in line]
    assert [line["iteration"] for line in trained] == [1, 2, 3, 4]
    assert all(0 <= line["kl"] < 0.01 for line in trained)
    best = max(trained, key=lambda line: line["return_after"])
    assert result["best_at"] == best["iteration"]
    trained = load_policy(tmp_path)
    assert trained.settings == SMALL
    assert evaluate_policy(trained.settings, trained.policy, tasks=3) == scores  # the weights that were tested
    more = evaluate_policy(trained.settings, trained.policy, tasks=3, steps=2)["returns"]
    assert more[:2] == scores["returns"]
    assert len(more) == 3


def test_what_is_measured_is_the_policy_in_the_checkpoint(tmp_path):
    train_policy(replace(SMALL, iterations=2), tmp_path)
    problem = MetaRl(SMALL)
    last = load_checkpoint(tmp_path / "last.safetensors").tensors
    problem.network.load_state_dict(
        {k.removeprefix("network."): v for k, v in last.items() if k.startswith("network.")}
    )
    problem.restore({"generator": last["state.generator"]})
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(problem.seen().returns()[-1].mean()) == pytest.approx(line["val_return"])


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_bits(tmp_path):
    code = (
        "import sys, pathlib, torch; torch.set_num_threads(1); from innerloop.rl.config import from_dict; import json;"
        "from innerloop.runs.policies import train_policy;"
        "train_policy(from_dict(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))"
    )
    settings = replace(SMALL, iterations=60)
    command = [sys.executable, "-c", code, json.dumps(as_dict(settings)), str(tmp_path / "killed")]
    started = subprocess.Popen(command)
    while not (tmp_path / "killed" / "last.safetensors").exists():
        assert started.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "killed" / "result.json").exists()
    subprocess.run(command, check=True)
    train_policy(settings, tmp_path / "whole")
    same(tmp_path / "whole", tmp_path / "killed")


def test_settings_come_back_from_json():
    settings = replace(SMALL, task="cheetah-velocity", learning=Learning("anil", log_std=True, trpo=Trpo(kl="sum")))
    assert from_dict(json.loads(json.dumps(as_dict(settings)))) == settings
    with pytest.raises(ValueError, match="no settings of a meta-RL run"):
        from_dict({**as_dict(settings), "task": "chess"})
    others = [replace(settings, **{name: value}) for name, value in DIFFERENT.items()]
    assert len({each.key for each in (settings, *others)}) == 1 + len(DIFFERENT)


def test_algorithms_differ_in_what_adapts():
    assert Learning("maml").inner().adapt == ("*",)
    assert Learning("anil").inner().adapt == ("head.*",)
    assert Learning("anil", log_std=True).inner().adapt == ("head.*", "log_std")
    assert Learning("fomaml").inner().first_order


def test_the_first_policy_depends_on_the_seed_alone():
    torch.manual_seed(5)
    first = MetaRl(SMALL).network.state_dict()
    torch.rand(3)
    again, other = MetaRl(SMALL).network.state_dict(), MetaRl(replace(SMALL, seed=1)).network.state_dict()
    assert all(first[name].equal(again[name]) for name in first)
    assert not all(first[name].equal(other[name]) for name in first)


def test_other_files_are_no_policies(tmp_path):
    with pytest.raises(FileNotFoundError, match="innerloop rl train"):
        load_policy(tmp_path)
