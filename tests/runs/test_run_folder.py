from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from innerloop.runs.folder import Stop, claimed


def test_a_folder_is_claimed_with_its_settings(tmp_path):
    out = tmp_path / "a" / "b"
    with claimed(out, {"lr": 0.1, "adapt": ("head.*",)}):
        assert json.loads((out / "spec.json").read_text()) == {"lr": 0.1, "adapt": ["head.*"]}
        with pytest.raises(ValueError, match="another process is at work in"), claimed(out, {"lr": 0.1}):
            pass
    with claimed(out, {"lr": 0.1, "adapt": ("head.*",)}):
        pass  # again, once it is free


def test_a_claim_ends_with_its_process(tmp_path):
    code = (
        "import os, sys, fcntl; lock = open(sys.argv[1] + '/.lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process"), claimed(tmp_path, {}):
            pass
        process.kill()
        process.wait()
        with claimed(tmp_path, {}):
            pass


@pytest.mark.parametrize("trained", ["last.safetensors", "at-5.safetensors", "result.json"])
def test_other_settings_are_named(trained, tmp_path):
    with claimed(tmp_path, {"lr": 0.1, "way": 5, "old": 1}):
        (tmp_path / trained).touch()
    said = r"old: 1 there, the default now; way: 5 there, 6 now\)\. Choose another --out"
    with pytest.raises(ValueError, match=said), claimed(tmp_path, {"lr": 0.1, "way": 6}):
        pass


def test_where_nothing_was_trained_other_settings_are_taken(tmp_path):
    with claimed(tmp_path, {"way": 5}):
        pass
    with claimed(tmp_path, {"way": 6}):
        assert json.loads((tmp_path / "spec.json").read_text()) == {"way": 6}


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".last.safetensors.123.part", ".at-20.safetensors.7.part", ".spec.json.9.part"):
        (tmp_path / name).write_text("half")
    for name in ("mine.part", ".video.mp4.part", ".mine.safetensors.123.part"):
        (tmp_path / name).write_text("a user's")
    with claimed(tmp_path, {}):
        assert {path.name for path in tmp_path.iterdir()} == {
            ".lock", "mine.part", ".video.mp4.part", ".mine.safetensors.123.part", "spec.json",
        }  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_takes_note_and_gives_the_handlers_back(number):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)  # asked twice politely is asked once
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_says_at_once_and_once_what_happens(number, capfd):
    with Stop():
        os.kill(os.getpid(), number)
        assert capfd.readouterr() == ("", "stopping after this step; Ctrl-C again stops at once\n")
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr() == ("", "")


def test_stop_works_where_nobody_hears_it(monkeypatch):
    def deaf(*_):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", deaf)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.asked
