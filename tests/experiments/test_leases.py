"""Claims: one holder at a time, and none when the holder is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innerloop.experiments import claims
from innerloop.experiments.claims import Claims

HOLD = """
import sys, time
from pathlib import Path
from innerloop.experiments import claims
claims.LEASE = float(sys.argv[2])
with claims.Claims(Path(sys.argv[1])).held("run") as mine:
    print(mine, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 1.0)


def holder(store: Path, lease: float = 1.0) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(store), str(lease)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def taken(held: Claims, *, patience: float = 0.0) -> bool:
    with held.held("run", patience=patience) as mine:
        return mine


def test_one_at_a_time(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    with one.held("run") as mine:
        assert mine
        assert not taken(other)
        with other.held("another") as free:
            assert free
    assert taken(other)
    assert taken(one)
    assert one.touched("run") is None, "nothing is left behind"


@pytest.mark.slow
def test_a_living_holder_keeps_it_longer_than_the_lease(tmp_path):
    with Claims(tmp_path).held("run"):
        assert not taken(Claims(tmp_path), patience=2.5)


@pytest.mark.slow
def test_it_ends_at_once_with_a_process_of_this_machine(tmp_path):
    process = holder(tmp_path, lease=60.0)
    claims.LEASE = 60.0
    assert not taken(Claims(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = time.monotonic()
    assert taken(Claims(tmp_path), patience=5)
    assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_it_expires_when_a_holder_on_another_machine_is_gone(tmp_path):
    """As another machine's: the same file with another host in it."""
    process = holder(tmp_path)
    path = tmp_path / "claims" / "run.lease"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path.write_text(re.sub("host=.*", "host=another", path.read_text()))
    held = Claims(tmp_path)
    assert not taken(held), "it has not been watched yet"
    assert taken(held, patience=held.patience + 2)


def test_an_error_inside_frees_it(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), Claims(tmp_path).held("run"):
        raise RuntimeError("inside")
    assert taken(Claims(tmp_path))


@pytest.mark.slow
def test_a_holder_that_has_lost_it_writes_no_more(tmp_path):
    """It slept, and another process has taken over."""
    process = holder(tmp_path)
    path = tmp_path / "claims" / "run.lease"
    stolen = path.with_name("stolen")
    stolen.write_text(json.dumps({"somebody": "else"}))
    os.replace(stolen, path)
    process.communicate(timeout=20)
    assert process.returncode == 75
