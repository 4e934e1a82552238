"""Several processes on this machine, one training each, with its cores or GPUs divided among them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from innerloop.experiments.executors.here import Tell, carry_out
from innerloop.experiments.plan import trainings
from innerloop.experiments.questions import Question
from innerloop.experiments.training import Means
from innerloop.runs.folder import Stop
from innerloop.runs.schedule import Interrupted


def carry_out_in(
    workers: int | None, questions: Sequence[Question], store: Path, means: Means, tell: Tell
) -> dict[Question, str]:
    """As `carry_out`, with up to `workers` processes at a time; None: one a GPU, or one a core.

    What times the device comes last, in this process alone.

    A worker that dies costs nothing but its time: what it was at is gone on with.
    """
    workers = min(
        workers or torch.cuda.device_count() or _cores(),
        sum(training.needed for training in trainings(questions, store)),
    )
    if workers > 1:
        _work(workers, questions, store, means, tell)
    return carry_out(questions, store, means, tell)


def workers_named(words: str) -> int | None:
    """The number that `--workers` asks for; None for auto.

    Raises:
        ValueError: it is neither auto nor a number from 1 on.
    """
    if words == "auto":
        return None
    if not words.isdecimal() or int(words) < 1:
        raise ValueError(f"--workers is auto or a number from 1 on, got {words!r}")
    return int(words)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(workers: int, questions: Sequence[Question], store: Path, means: Means, tell: Tell) -> None:
    """Start the processes, pass on what they say, and wait for them.

    Raises:
        Interrupted: Ctrl-C or SIGTERM, which went on to all of them.
    """
    spawn = multiprocessing.get_context("spawn")
    tell(f"{workers} workers, {max(1, _cores() // workers)} threads each")
    processes: list[BaseProcess] = []
    listeners: list[threading.Thread] = []
    for number in range(workers):
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_worker, args=(questions, store, means, theirs), daemon=True)
        with _environment(_share(number, workers)):
            process.start()
        theirs.close()
        listener = threading.Thread(target=_listen, args=(ours, f"[{number + 1}] ", tell), daemon=True)
        listener.start()
        processes.append(process)
        listeners.append(listener)
    with Stop() as stop:
        asked = False
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(0.1)
                if stop.asked and not asked:
                    process.terminate()  # which each answers by saving its run
            asked = stop.asked
    for listener in listeners:
        listener.join()
    if stop.asked:
        raise Interrupted("stopped; what was done is saved")
    for number, process in enumerate(processes, start=1):
        if process.exitcode:
            tell(f"worker {number} died (exit code {process.exitcode}); what it was at is gone on with")


def _share(number: int, workers: int) -> dict[str, str]:
    """The environment of a worker: its threads, and its GPU where there are some."""
    share = {"OMP_NUM_THREADS": str(max(1, _cores() // workers))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return share | ({"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {})


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Inside, a process that starts has these variables."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _listen(connection: Connection, prefix: str, tell: Tell) -> None:
    with os.fdopen(os.dup(connection.fileno()), errors="replace") as lines:
        connection.close()
        for line in lines:
            tell(prefix + line.rstrip("\n"))


def _worker(questions: Sequence[Question], store: Path, means: Means, voice: Connection) -> None:
    """What a process does: everything that no other one is at, and no timing."""
    os.dup2(voice.fileno(), sys.stderr.fileno())  # no terminal: no bar of progress beside the others'
    voice.close()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        carry_out(questions, store, means, _say, times=False)
    except Interrupted as stopped:
        _say(str(stopped))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
