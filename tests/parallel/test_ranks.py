from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from parallel import rank as one_rank

from innerloop.parallel.heartbeat import Heartbeat
from innerloop.parallel.ranks import Ranks, launched

ROOT = Path(__file__).parents[2]


def launch(size: int, folder: Path, first: int, last: int, how: str = "goes") -> list[tuple[int, str]]:
    """Run the ranks as a launcher would; how each ended, and what it said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    rest = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", one_rank.__file__, str(folder), str(first), str(last), how]
    ranks = [
        subprocess.Popen(
            words,
            env={**os.environ, **rest, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [rank.communicate()[1] for rank in ranks]
    return [(rank.returncode, words) for rank, words in zip(ranks, said, strict=True)]


def state(folder: Path) -> list[torch.Tensor]:
    model, adam = torch.load(folder / "state")
    return [*model.values(), *(value for part in adam["state"].values() for value in part.values())]


@pytest.mark.slow
def test_any_number_of_ranks_takes_the_same_steps_and_goes_on_where_another_number_stopped(tmp_path):
    alone, several = tmp_path / "alone", tmp_path / "several"
    alone.mkdir()
    one_rank.lead(None, 0, 5, alone, "goes")
    assert [code for code, _ in launch(2, several, 0, 2)] == [0, 0]
    assert [code for code, _ in launch(3, several, 2, 4)] == [0, 0, 0]
    one_rank.lead(None, 4, 5, several, "goes")
    for ours, theirs in zip(state(several), state(alone), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(*((f / "losses").read_text().split() for f in (several, alone)), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=1e-7)  # an accuracy is in single precision


@pytest.mark.slow
def test_when_a_rank_dies_the_others_end_with_one_line_and_another_start_goes_on(tmp_path):
    begun = time.monotonic()
    (code, said), (killed, _) = launch(2, tmp_path, 0, 50, "dies")
    assert (code, killed) == (1, -9)
    assert time.monotonic() - begun < 60
    lines = [line for line in said.splitlines() if line.startswith("innerloop: ")]
    assert lines == [said.splitlines()[-1]]
    assert "another process of this training is gone" in lines[0]
    assert "Give the same command again" in lines[0]
    assert [code for code, _ in launch(2, tmp_path, 1, 3)] == [0, 0]


@pytest.mark.slow
def test_ranks_with_other_settings_do_not_begin(tmp_path):
    (code, said), (other, silent) = launch(2, tmp_path, 0, 3, "unequal")
    assert code == 1
    assert other != 0, "gloo may abort a rank whose peer has gone"
    assert "rank 1 differs from rank 0: other against one" in said.splitlines()[-1]
    assert "innerloop" not in silent, "one rank speaks"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_shares_of_all_ranks_are_all_tasks_each_once_as_even_as_can_be(size):
    for tasks in (1, 4, 7):
        shares = [range(tasks)[Ranks(rank, size).share(tasks)] for rank in range(size)]
        assert [task for share in shares for task in share] == list(range(tasks))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_a_launcher_there_is_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == 1
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert launched() == 3


class Shelf(dict[str, object]):
    """A store in this process."""

    set = dict.__setitem__

    def get(self, key):
        return str(self[key]).encode()

    def check(self, keys):
        return all(key in self for key in keys)


def ends(before, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not before:
        time.sleep(0.01)
    return bool(before)


def test_a_silent_rank_ends_the_others_with_one_line_and_one_that_left_in_order_does_not(capsys):
    shelf, left = Shelf(), []
    with Heartbeat(shelf, 1, 2, 0.2, left.append), Heartbeat(shelf, 0, 2, 0.2, left.append):
        time.sleep(0.6)
        assert left == []
    assert shelf == {"0": "left", "1": "left"}
    with Heartbeat(shelf, 0, 2, 0.2, left.append):
        time.sleep(0.5)
    assert left == []
    with Heartbeat(Shelf(), 0, 2, 0.2, left.append):
        assert ends(left)
    assert left == [1]
    assert capsys.readouterr().err.startswith(
        "innerloop: rank 0: rank 1 is gone, nothing was heard of it for 0 s. Give"
    )


def test_when_the_store_is_gone_so_is_the_training(capsys):
    class Gone(Shelf):
        def set(self, key, value):  # noqa: ARG002
            raise RuntimeError("Broken pipe")

    left = []
    with Heartbeat(Gone(), 1, 2, 0.2, left.append):
        assert ends(left)
    assert "the process that holds the training's store is gone" in capsys.readouterr().err
