"""A run's folder: whose it is, that one process works in it, and how it is asked to stop."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from innerloop.runs.checkpoint import load_checkpoint, write_whole


class Busy(ValueError):
    """Another process works in a run's folder."""


_LEFT = re.compile(r"\.((last|best|at-\d+)\.safetensors|(spec|result)\.json)\.\d+\.part")
"""What a process leaves that is killed while it writes a file of a run."""


@contextmanager
def claimed(out: Path, spec: Mapping[str, Any]) -> Iterator[None]:
    """Inside, the folder `out` belongs to this process and to a run with these settings; `iterations` may change.

    A start that failed before anything was trained leaves nothing: neither the folder, if it was not there, nor its
    settings.

    Raises:
        ValueError: it holds a trained run with other settings, or one whose spec.json is damaged.
        Busy: another process works in it.
        OSError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, where a run needs a folder. Choose another --out.")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    known, lock = out / "spec.json", out / ".lock"
    with alone(lock, out):
        for left in out.glob(".*.part"):
            if _LEFT.fullmatch(left.name):
                left.unlink()
        here = json.loads(json.dumps(spec))
        there = _settings_of(out) if is_trained(out) else None
        if there is not None:
            _check_same(there, here, out)
        if there != here:
            write_whole(known, json.dumps(here, indent=1).encode())
        try:
            yield
        finally:
            if not is_trained(out) and not any(out.glob("metrics.jsonl")):
                known.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # something else is in it
                    for folder in made:
                        folder.rmdir()


def _settings_of(out: Path) -> dict[str, Any] | None:
    """Of the run in a folder: spec.json, or else what its last checkpoint or its result say."""
    known, last, result = (out / name for name in ("spec.json", "last.safetensors", "result.json"))
    if known.exists():
        return read_json(known)
    if last.exists():
        return load_checkpoint(last).metadata.get("identity")
    return read_json(result).get("spec") if result.exists() else None


def is_trained(out: Path) -> bool:
    """Whether a folder holds something to protect."""
    return (out / "result.json").exists() or any(out.glob("*.safetensors"))


def set_aside(out: Path, *names: str) -> Path | None:
    """Move these files, where they are there, into a new folder earlier-1, earlier-2, ... of a run: nothing is lost."""
    files = [path for name in names for path in sorted(out.glob(name))]
    if not files:
        return None
    number = next(n for n in itertools.count(1) if not (out / f"earlier-{n}").exists())
    aside = out / f"earlier-{number}"
    aside.mkdir()
    for path in files:
        path.rename(aside / path.name)
    return aside


T = TypeVar("T")


def read_json(path: Path, kind: type[T] = dict[str, Any]) -> T:
    """A file beside the weights of a run, which are whole without it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # no JSON, no text, or other fields than there should be
        raise ValueError(
            f"{path} is damaged ({error}). Delete it and give the same command again: the weights, and the settings, "
            "lie in files of their own."
        ) from None


@contextmanager
def alone(lock: Path, where: Path) -> Iterator[None]:
    """Inside, no other process holds the file `lock`, which stands for `where`; a dead process holds nothing.

    Raises:
        Busy: another process does.
    """
    held = FileLock(lock, blocking=False)
    try:
        held.acquire()
    except Timeout as error:
        raise Busy(f"another process is at work in {where}; wait for it, or choose another --out") from error
    try:
        yield
    finally:
        held.release()


def _check_same(there: Mapping[str, Any], here: Mapping[str, Any], out: Path) -> None:
    """Refuse settings that differ in more than the iterations.

    Raises:
        ValueError: they do.
    """

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
