"""Many measures and the runs that they need: what is done, what is left, and doing it.

Whatever asks for them, a run is trained once and a measure computed once: both are named by their settings. Several
processes may work in one store; what another one is training is left to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from innerloop.checkpoint import load_checkpoint, write_whole
from innerloop.data import Splits
from innerloop.outer import meta_train
from innerloop.runs.execute import How, device_name, open_data, pick_device, train
from innerloop.runs.measure import Banks, compute, find, path_of, random_episodes
from innerloop.runs.measures import Measure, Resemblance, Timing
from innerloop.runs.spec import Spec
from innerloop.runs.store import Busy, alone

HowFor = Callable[[Spec], How]
"""How a run is computed: its device, and where its data lies."""
Tell = Callable[[str], None]
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
    bodies = {spec.body for spec in awaited if not (store / spec.name / "result.json").exists()}
    return [
        _training(spec, store, spec in awaited or spec.name in bodies)
        for spec in sorted(specs, key=lambda spec: (spec.seed, bool(spec.body)))
    ]


def _training(spec: Spec, store: Path, awaited: bool) -> Training:
    folder = store / spec.name
    if (folder / "result.json").exists():
        return Training(spec, spec.iterations, True, False)
    last = folder / "last.safetensors"
    return Training(spec, load_checkpoint(last).about["iteration"] if last.exists() else 0, False, awaited)


def seconds_left(training: Training, store: Path, how: How) -> float:
    """What is left of a run, at its own rate so far or by a trial of two steps on random images.

    Validation and test come on top: a few per cent of a run of the paper's length.
    """
    left = training.spec.iterations - training.done
    if not training.needed or not left:
        return 0.0
    if training.done:
        return left * load_checkpoint(store / training.spec.name / "last.safetensors").about["seconds"] / training.done
    return left * _step_seconds(training.spec, store, how)


def _step_seconds(spec: Spec, store: Path, how: How) -> float:
    """Seconds of a training step; a trial is made once for all runs that differ in nothing that takes time."""
    body = "any" if spec.body else ""
    same = replace(spec, seed=0, iterations=1, keep=0, body=body, val_every=1, lr=1.0, meta_lr=1.0, clip=None)
    device, few = pick_device(how.device), f", {how.at_once} tasks at once" if how.at_once else ""
    key = f"{same.key} on {device_name(device)}{few}"
    path = store / "rates.json"
    rates: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if key not in rates:
        rates[key] = _trial(spec, device, how.at_once)
        write_whole(path, json.dumps(rates, indent=1).encode())
    return rates[key]


def _trial(spec: Spec, device: torch.device, at_once: int | None) -> float:
    shape, episodes = random_episodes(spec, spec.tasks, spec.query, device)
    model = spec.build(shape).to(device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not spec.body or name.startswith("head."))
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    steps = meta_train(model, [episodes] * 3, spec.predictor(), adam, at_once=at_once)
    next(steps).loss.item()  # the first one is slow
    begun = time.perf_counter()
    for step in steps:
        step.loss.item()
    return (time.perf_counter() - begun) / 2


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
    waiting = [measure for measure in measures if find(measure, store) is None]
    plan = trainings(measures, store)
    todo = [training for training in plan if training.needed]
    tell(f"{len(waiting)} of {len(measures)} measures and {len(todo)} of the {len(plan)} runs they need are left")

    def compute_what_is_ready(*, timings: bool = False) -> None:
        for measure in waiting.copy():
            if isinstance(measure, Timing) == timings and all(
                (store / spec.name / "result.json").exists() for spec in measure.runs
            ):
                try:
                    _compute_once(measure, store, banks, how(subject(measure)))
                except Busy:  # another process is at it
                    continue
                except _USER_ERRORS as error:
                    missing[measure] = _line(error)
                waiting.remove(measure)

    compute_what_is_ready()
    problems: dict[Spec, str] = {}
    left = [seconds_left(training, store, how(training.spec)) for training in todo]
    for number, training in enumerate(todo, start=1):
        spec, rest = training.spec, sum(left[number - 1 :])
        bodiless = [why for body, why in problems.items() if body.name == spec.body]
        tell(f"run {number} of {len(todo)}: {spec.name}; about {duration(rest)} of training left in all")
        try:
            if bodiless:
                problems[spec] = bodiless[0]
            else:
                train(spec, store / spec.name, how(spec))
        except Busy:
            problems[spec] = _BUSY
        except _USER_ERRORS as error:
            problems[spec] = _line(error)
        if spec in problems:
            tell(f"left out: {problems[spec]}")
        compute_what_is_ready()
    compute_what_is_ready(timings=True)
    for measure in waiting:
        if find(measure, store) is None:  # by now another process may have been there
            missing[measure] = next((problems[spec] for spec in measure.runs if spec in problems), _BUSY)
    return missing


def _compute_once(measure: Measure, store: Path, banks: Banks, how: How) -> None:
    path = path_of(measure, store)
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name(f".{path.stem}.lock"), path):
        if find(measure, store) is None:
            compute(measure, store, banks, how)


def duration(seconds: float) -> str:
    """For people: 12 min, or 3.5 h."""
    minutes = seconds / 60
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _remembered(how: HowFor) -> Banks:
    """Opens each data set once."""
    opened: dict[tuple[Any, ...], Splits] = {}

    def banks(spec: Spec) -> Splits:
        key = (spec.data, spec.size, spec.split)
        if key not in opened:
            opened[key] = open_data(spec, how(spec))
        return opened[key]

    return banks


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def subject(measure: Measure) -> Spec:
    """The settings of the network that a measure is about, or of its first."""
    return measure.first if isinstance(measure, Resemblance) else measure.run
