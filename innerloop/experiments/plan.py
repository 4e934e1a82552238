"""Many measures and the runs that they need: what is done, what is left, and doing it.

Whatever asks for them, a run is trained once and a measure computed once: both are named by their settings. Several
processes may work in one store; what another one is training is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.data import Splits
from innerloop.device import device_name, pick_device
from innerloop.experiments.answers import Banks, compute, find, path_of
from innerloop.experiments.estimates import answer_seconds, run_seconds
from innerloop.experiments.questions import Measure, Timing, subject
from innerloop.runs.checkpoint import load_checkpoint
from innerloop.runs.config import Spec
from innerloop.runs.folder import Busy, alone
from innerloop.runs.images import Compute, result_of, train_images
from innerloop.runs.sources import Source, open_data

HowFor = Callable[[Spec], tuple[Compute, Source]]
"""How a run is computed: its device, and where its data lies."""
Tell = Callable[[str], None]
_LONG = 5  # seconds after which a measure is told of
_BUSY = "another process is at work on it: give the same command again later"
_USER_ERRORS = (FileNotFoundError, ValueError)  # such as a data set that is not there


@dataclass(frozen=True)
class Training:
    """A run of a plan."""

    spec: Spec
    done: int  # iterations
    finished: bool  # trained and tested
    needed: bool  # not finished, and a measure without an answer, or a head on its body, waits for it


def trainings(measures: Iterable[Measure], store: Path) -> list[Training]:
    """The distinct runs that measures need, in the order of their training: by seed, bodies before heads."""
    measures = list(measures)
    specs = dict.fromkeys(spec for measure in measures for spec in measure.runs)
    awaited = {spec for measure in measures if find(measure, store) is None for spec in measure.runs}
    bodies = {spec.inner.body for spec in awaited if result_of(spec, store / spec.name) is None}
    return [
        _training(spec, store, spec in awaited or spec.name in bodies)
        for spec in sorted(specs, key=lambda spec: (spec.seed, bool(spec.inner.body)))
    ]


def _training(spec: Spec, store: Path, awaited: bool) -> Training:
    folder = store / spec.name
    if result_of(spec, folder) is not None:
        return Training(spec, spec.schedule.iterations, True, False)
    last = folder / "last.safetensors"
    return Training(spec, load_checkpoint(last).metadata["iteration"] if last.exists() else 0, False, awaited)


def seconds_left(training: Training, store: Path, how: Compute) -> float:
    """What is left of a run."""
    return run_seconds(training.spec, training.done, store, how) if training.needed else 0.0


def unanswered(measures: Iterable[Measure], store: Path, how: HowFor) -> list[Measure]:
    """The measures that have no answer yet. A timing counts on the device that it was made on, and on no other."""

    def answered(measure: Measure) -> bool:
        answer = find(measure, store)
        if answer is None or not isinstance(measure, Timing):
            return answer is not None
        return answer["device"] == device_name(pick_device(how(subject(measure))[0].device))

    return [measure for measure in measures if not answered(measure)]


def carry_out(measures: Sequence[Measure], store: Path, how: HowFor, tell: Tell) -> dict[Measure, str]:
    """Train what is not trained, compute what is not computed, and return why some measures are still missing.

    A measure is computed as soon as its runs are there, timings at the very end. A run whose data set is missing costs
    the measures that need it, and nothing else.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
        OSError: the store cannot be written, or the disk is full; what was done is saved.
    """
    banks = _remembered(how)
    missing: dict[Measure, str] = {}
    waiting = unanswered(measures, store, how)
    plan = trainings(measures, store)
    todo = [training for training in plan if training.needed]
    tell(f"{len(waiting)} of {len(measures)} measures and {len(todo)} of the {len(plan)} runs they need are left")

    def compute_what_is_ready(*, timings: bool = False) -> None:
        asked = {spec for measure in waiting for spec in measure.runs}
        finished = {spec for spec in asked if result_of(spec, store / spec.name) is not None}
        for measure in waiting.copy():
            if isinstance(measure, Timing) == timings and finished.issuperset(measure.runs):
                try:
                    _compute_once(measure, store, banks, how, tell)
                except Busy:  # another process is at it
                    continue
                except _USER_ERRORS as error:
                    missing[measure] = _line(error)
                waiting.remove(measure)

    compute_what_is_ready()
    problems: dict[Spec, str] = {}
    for number, training in enumerate(todo, start=1):
        spec = training.spec
        rest = sum(seconds_left(each, store, how(each.spec)[0]) for each in todo[number - 1 :])
        rest += sum(answer_seconds(measure, store, how(subject(measure))[0]) for measure in waiting)
        bodiless = [why for body, why in problems.items() if body.name == spec.inner.body]
        tell(f"run {number} of {len(todo)}: {spec.name}; about {duration(rest)} left in all")
        try:
            if bodiless:
                problems[spec] = bodiless[0]
            else:
                train_images(spec, store / spec.name, *how(spec))
        except Busy:
            problems[spec] = _BUSY
        except _USER_ERRORS as error:
            problems[spec] = _line(error)
        if spec in problems:
            tell(f"left out: {problems[spec]}")
        compute_what_is_ready()
    compute_what_is_ready(timings=True)
    for measure in unanswered(waiting, store, how):  # by now another process may have been there
        missing[measure] = next((problems[spec] for spec in measure.runs if spec in problems), _BUSY)
    return missing


def _compute_once(measure: Measure, store: Path, banks: Banks, how: HowFor, tell: Tell) -> None:
    path, run = path_of(measure, store), subject(measure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name(f".{path.stem}.lock"), path):
        if unanswered([measure], store, how):
            took = compute(measure, store, banks, how(run)[0])["seconds"]
            if took >= _LONG:
                tell(f"measured: {type(measure).__name__.lower()} of {run.title}, {took:.0f} s")


def duration(seconds: float) -> str:
    """For people: 12 min, or 3.5 h."""
    minutes = seconds / 60
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _remembered(how: HowFor) -> Banks:
    """Opens each data set once."""
    opened: dict[tuple[Any, ...], Splits] = {}

    def banks(spec: Spec) -> Splits:
        key = (spec.problem.data, spec.problem.size, spec.problem.split)
        if key not in opened:
            opened[key] = open_data(spec.problem, how(spec)[1])
        return opened[key]

    return banks


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
