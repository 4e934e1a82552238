"""Several processes on one store, and several workers of one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from tiny import call

from innerloop.experiments.executors.local import workers_named
from innerloop.experiments.plan import trainings
from innerloop.experiments.study import Study, load_study

FILE = '''
"""A study with four short trainings."""

from innerloop.experiments import Cell, Scale, Study, Table, accuracy
from innerloop.runs.config import Spec

RUN = Spec().where(
    data="{data}", algorithm="anil", way=3, shot=1, query=2, meta_batch=2, steps=1, lr=0.4, width=4, size=20,
    pooling="stride", iterations={iterations}, log_every=1, val_every=20, val_episodes=2, test_episodes=3,
    test_query=2, test_steps=1,
)


def cell(scale: Scale, row: str, column: str, seed: int) -> Cell:
    return accuracy(scale.problems["pictures"].where(seed=seed), nil=row == "NIL")


STUDY = Study(
    name="few", title="Few", asks="Does it run?",
    exhibits=(Table("table1", "Few", "Few runs.", ("ANIL", "NIL"), ("accuracy",), cell),),
    scales=(Scale("quick", 4, "Few and small.", {{"pictures": RUN}}),),
)
'''


def study_in(folder: Path, iterations: int = 20) -> Path:
    data = tiny.pictures(folder / "shapes", each=8)
    path = folder / f"study_{folder.name.replace('-', '_')}.py"
    path.write_text(FILE.format(data=data, iterations=iterations))
    return path


def start(path: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "innerloop", "study", path, "run", "--store", store, "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "INNERLOOP_CACHE": str(path.parent / "cache")}
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment)


def trained(said: str) -> list[str]:
    return re.findall(r"training (\S+):", said)


def everything_is_there(study: Study, store: Path) -> bool:
    return all(training.finished for training in trainings(study.questions(study.scales[0]), store))


@pytest.mark.slow
def test_three_processes_train_each_run_once(tmp_path):
    path, store = study_in(tmp_path), tmp_path / "store"
    processes = [start(path, store) for _ in range(3)]
    said = [process.communicate(timeout=200)[1] for process in processes]
    names = sorted(name for each in said for name in trained(each))
    assert len(names) == len(set(names)) == 4, said
    assert 0 in [process.returncode for process in processes], said
    last = start(path, store)
    rest = last.communicate(timeout=100)[1]
    assert last.returncode == 0, rest
    assert trained(rest) == []
    assert everything_is_there(load_study(path), store)


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with_by_another(tmp_path):
    path, store = study_in(tmp_path, iterations=500), tmp_path / "store"
    first = start(path, store)
    while not list(store.glob("*/last.safetensors")):
        time.sleep(0.05)
        assert first.poll() is None
    study = load_study(path)
    (begun,) = [each.spec.name for each in trainings(study.questions(study.scales[0]), store) if each.done]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert list((store / "claims").glob("*.lease")), "which nobody has freed"
    path.write_text(path.read_text().replace('4, "Few and small."', '1, "Few and small."'))
    second = start(path, store)
    said = second.communicate(timeout=200)[1]
    assert second.returncode == 0, said
    assert trained(said) == [begun]


@pytest.mark.slow
def test_workers_train_each_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    path, store = study_in(tmp_path), tmp_path / "store"
    outcome = call("study", path, "run", "--store", store, "--device", "cpu", "--workers", 2)
    assert outcome.code == 0, outcome.err
    assert "2 workers, " in outcome.err
    names = trained(outcome.err)
    assert len(names) == len(set(names)) == 4
    assert {line[:4] for line in outcome.err.splitlines() if "training" in line} == {"[1] ", "[2] "}
    assert everything_is_there(load_study(path), store)
    again = call("study", path, "run", "--store", store, "--workers", 2)
    assert again.code == 0
    assert " workers, " not in again.err, "there is nothing to do"


def test_how_many_workers():
    assert workers_named("3") == 3
    assert workers_named("auto") is None
    for wrong in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(ValueError, match=f"auto or a number from 1 on, got {wrong!r}"):
            workers_named(wrong)
