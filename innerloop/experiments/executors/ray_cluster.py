"""On a Ray cluster: a training an actor, with its share of the cores or GPUs. The store lies on a disk that all share.

The cluster is the one at RAY_ADDRESS; without one, this machine is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from innerloop.experiments.claims import Claims
from innerloop.experiments.executors.here import BUSY, USER_ERRORS, Tell, carry_out, in_a_line
from innerloop.experiments.plan import finished, trainings, unanswered
from innerloop.experiments.questions import Question
from innerloop.experiments.training import Means, Run, body_of, train
from innerloop.runs.schedule import Interrupted

_RESTARTS = 3  # of a worker that died, on one run


def carry_out_on_ray(
    workers: int | None, questions: Sequence[Question], store: Path, means: Means, tell: Tell
) -> dict[Question, str]:
    """As `carry_out`, with up to `workers` trainings at a time; None: one a GPU of the cluster, or one a core.

    Where a worker is lost, another goes on with its run. What times the device is answered at the end, by this process.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: there is no cluster at RAY_ADDRESS.
    """
    if any(training.needed for training in trainings(questions, store)):
        ray = _ray()
        _connect(ray)
        try:
            cluster = _Cluster(ray, workers, questions, store.absolute(), means, tell)
            refused = cluster.train()
            cluster.answer()
        except KeyboardInterrupt as stopped:
            raise Interrupted("stopped; what was done is saved") from stopped
        finally:
            ray.shutdown()
        for name, why in refused.items():
            tell(f"{name}: {why}")
        if refused:
            asked = [question for question in questions if refused.keys().isdisjoint(run.name for run in question.runs)]
            rest = carry_out(asked, store, means, tell)
            return rest | _because(set(unanswered(questions, store, means)) - set(rest), refused)
    return carry_out(questions, store, means, tell)


def _because(questions: Iterable[Question], refused: dict[str, str]) -> dict[Question, str]:
    return {question: next(refused[run.name] for run in question.runs if run.name in refused) for question in questions}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("Ray is not installed: pip install 'innerloop[scale]'") from error
    return ray


def _connect(ray: Any) -> None:
    """Workers import what this process imports, a study's file among them, if they find it at the same place."""
    path = os.pathsep.join(dict.fromkeys(os.path.abspath(place) for place in sys.path if place))
    cluster = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": path}}, logging_level="ERROR", **cluster)


@dataclass
class _Cluster:
    ray: Any
    workers: int | None
    questions: Sequence[Question]
    store: Path
    means: Means
    tell: Tell
    running: dict[Any, tuple[Run, Any]] = field(default_factory=dict[Any, Any])  # by its reference: a run, its actor
    refused: dict[str, str] = field(default_factory=dict[str, str])  # runs by name: why

    def __post_init__(self) -> None:
        there = self.ray.cluster_resources()
        gpus, cores = there.get("GPU", 0), max(1, int(there.get("CPU", 1)))
        self.at_once = self.workers or int(gpus) or cores
        self.share: dict[str, float] = {"num_cpus": max(1, cores // self.at_once)}
        if gpus:
            self.share = {"num_cpus": 0, "num_gpus": min(1, gpus / self.at_once)}
        self.threads = max(1, cores // self.at_once)

    def train(self) -> dict[str, str]:
        """Train all that is needed, bodies before heads; why some runs could not be."""
        while self._start() or self.running:
            done, _ = self.ray.wait(list(self.running), num_returns=1)
            for reference in done:
                self._end(reference)
        return self.refused

    def _start(self) -> bool:
        """Give the runs that can begin to new actors; whether there was one."""
        needed = [each.spec for each in trainings(self.questions, self.store) if each.needed]
        at_work = {run.name for run, _ in self.running.values()}
        begun = False
        for run in needed:
            body = body_of(run)
            if body in self.refused:
                self.refused[run.name] = self.refused[body]
            ready = run.name not in at_work | self.refused.keys() and body not in {each.name for each in needed}
            if ready and len(self.running) < self.at_once:
                actor = self.ray.remote(**self.share, max_restarts=_RESTARTS, max_task_retries=_RESTARTS)(_Trainer)
                trainer = actor.remote(self.store, self.means, self.threads)
                self.running[trainer.train.remote(run)] = run, trainer
                self.tell(f"training {run.name} on the cluster, with {len(self.running)} at a time")
                begun = True
        return begun

    def _end(self, reference: Any) -> None:
        run, _ = self.running.pop(reference)  # without its actor's handle Ray ends it
        try:
            why = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            why = f"its worker died {_RESTARTS + 1} times, last of: {in_a_line(error)}"
        if not why and not finished(run, self.store):
            why = (
                f"it was trained, and {self.store} has no result of it here: it must be a disk that all machines share"
            )
        if why:
            self.refused[run.name] = why

    def answer(self) -> None:
        """Answer what can be, a network's questions in one worker; what is left says why in this process."""
        groups: dict[str, list[Question]] = {}
        for question in unanswered(self.questions, self.store, self.means):
            if not question.times_the_device and self.refused.keys().isdisjoint(run.name for run in question.runs):
                groups.setdefault(question.subject.name, []).append(question)
        work = self.ray.remote(**self.share, max_retries=_RESTARTS)(_answer)
        begun = [work.remote(group, self.store, self.means, self.threads) for group in groups.values()]
        if begun:
            self.ray.wait(begun, num_returns=len(begun))


class _Trainer:
    """An actor: trains one run. When its process dies Ray starts another, which goes on from the last checkpoint."""

    def __init__(self, store: Path, means: Means, threads: int) -> None:
        torch.set_num_threads(threads)
        self.store, self.means, self.claims = store, means, Claims(store)

    def train(self, run: Run) -> str:
        """Why the run could not be trained; empty if it is."""
        with self.claims.held(run.name, patience=self.claims.patience) as mine:
            if not mine:
                return BUSY
            try:
                train(run, self.store / run.name, *self.means(run))
            except USER_ERRORS as error:
                return in_a_line(error)
        return ""


def _answer(questions: Sequence[Question], store: Path, means: Means, threads: int) -> None:
    torch.set_num_threads(threads)
    carry_out(questions, store, means, lambda _: None, times=False)
