"""A plan on a Ray cluster of this machine: a worker that dies costs nothing but its time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from test_processes import study_in
from tiny import call

from innerloop.experiments.answers import find
from innerloop.experiments.executors import ray_cluster
from innerloop.experiments.study import load_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Two cores."""
    ray = pytest.importorskip("ray", reason="needs Ray: the extra `scale`")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    connect, here = ray_cluster._connect, ray.init
    monkeypatch.setattr(ray, "init", lambda **how: here(num_cpus=2, **how))
    yield connect
    ray.shutdown()


def kill_the_first(store: Path) -> threading.Thread:
    """As soon as a run has a checkpoint, kill whoever holds its claim."""

    def kill() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            for last in store.glob("*/last.safetensors"):
                lease = store / "claims" / f"{last.parent.name}.lease"
                if lease.exists() and not (last.parent / "result.json").exists():
                    pid = next(line for line in lease.read_text().splitlines() if line.startswith("pid="))
                    os.kill(int(pid.removeprefix("pid=")), signal.SIGKILL)
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.usefixtures("cluster")
def test_a_lost_worker_is_replaced_and_the_answers_are_the_same(tmp_path):
    path = study_in(tmp_path, iterations=200)
    path.write_text(path.read_text().replace('Scale("quick", 4,', 'Scale("quick", 6,'))
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    assert call("study", path, "run", "--store", undisturbed, "--device", "cpu").code == 0
    killer = kill_the_first(store)
    outcome = call("study", path, "run", "--store", store, "--device", "cpu", "--executor", "ray", "--workers", 2)
    killer.join()
    assert outcome.code == 0, outcome.err
    study = load_study(path)
    for question in study.questions(study.scales[0]):
        one, other = find(question, undisturbed), find(question, store)
        assert one
        assert other
        assert one.answer == other.answer


def test_without_ray_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = call("study", study_in(tmp_path), "run", "--store", tmp_path / "store", "--executor", "ray")
    assert outcome.code == 1
    assert "innerloop: Ray is not installed: pip install 'innerloop[scale]'" in outcome.err
