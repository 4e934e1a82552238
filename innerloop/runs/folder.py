"""A run's folder: whose it is, that one process works in it, and how it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from innerloop.runs.checkpoint import write_whole


class Busy(ValueError):
    """Another process works in a run's folder."""


@contextmanager
def claimed(out: Path, spec: Mapping[str, Any]) -> Iterator[None]:
    """Inside, the folder `out` belongs to this process and to a run with these settings; `iterations` may change.

    A start that failed before anything was trained leaves nothing to protect: its settings are replaced.

    Raises:
        ValueError: it holds a trained run with other settings, or one whose spec.json is damaged.
        Busy: another process works in it.
        OSError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, where a run needs a folder. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    known = out / "spec.json"
    with alone(out / ".lock", out):
        for left in out.glob(".*.part"):  # by a process that was killed while it wrote
            left.unlink()
        here = json.loads(json.dumps(spec))
        trained = (out / "result.json").exists() or any(out.glob("*.safetensors"))
        there = read_json(known) if trained and known.exists() else None
        if there is not None:
            _compare(there, here, out)
        if there != here:
            write_whole(known, json.dumps(here, indent=1).encode())
        yield


def read_json(path: Path) -> dict[str, Any]:
    """A file beside the weights of a run, which are whole without it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError:  # no JSON, or no text
        values = None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} is damaged. Delete it and give the same command again: the weights lie in files of their own."
        )
    return values


@contextmanager
def alone(lock: Path, where: Path) -> Iterator[None]:
    """Inside, no other process holds the file `lock`, which stands for `where`.

    Raises:
        Busy: another process does.
    """
    with open(lock, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: two processes in one place are the user's care
            pass
        except BlockingIOError as error:
            raise Busy(f"another process is at work in {where}; wait for it, or choose another --out") from error
        yield


def _compare(there: dict[str, Any], here: dict[str, Any], out: Path) -> None:
    def value(settings: Mapping[str, Any], key: str) -> str:
        return repr(settings[key]) if key in settings else "the default"

    other = [
        f"{key}: {value(there, key)} there, {value(here, key)} now"
        for key in sorted(here.keys() | there.keys())
        if there.get(key) != here.get(key) and key != "iterations"
    ]
    if other:
        raise ValueError(f"{out} holds a run with other settings ({'; '.join(other)}). Choose another --out.")


_STOPPING = b"stopping after this step; Ctrl-C again stops at once\n"


class Stop:
    """Inside, a first Ctrl-C or SIGTERM says so and sets `asked`; a second Ctrl-C interrupts at once.

    Several runs that train in step are inside of one at the same time.
    """

    def __init__(self) -> None:
        self.asked = False
        self._inside = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        self._inside += 1
        if self._inside == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  a signal handler's arguments
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = True
        with suppress(OSError):  # print is not safe in a signal handler
            os.write(2, (b"\n" if os.isatty(2) else b"") + _STOPPING)  # a terminal shows a bar and ^C on this line

    def __exit__(self, *error: object) -> None:
        self._inside -= 1
        while not self._inside and self._old:
            signal.signal(*self._old.popitem())
