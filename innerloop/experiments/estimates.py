"""How long what is left of a plan takes: by what its finished and running trainings took, else unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from innerloop.experiments.plan import Training
from innerloop.experiments.training import Run, iterations_of, of_any_seed


def rates(trainings: Iterable[Training]) -> dict[Run, float]:
    """Seconds an iteration, validations included, of runs that differ in their seed alone (they stand for seed 0)."""
    found: dict[Run, list[float]] = {}
    for training in trainings:
        if training.seconds is not None and training.done:
            found.setdefault(of_any_seed(training.spec), []).append(training.seconds / training.done)
    return {run: fmean(each) for run, each in found.items()}


def seconds_left(training: Training, rates: Mapping[Run, float]) -> float | None:
    """Of a run, by its own rate if it has begun, else by that of another seed; None: unknown."""
    left = iterations_of(training.spec) - training.done
    if not training.needed or not left:
        return 0.0
    if training.seconds is not None and training.done:
        return left * training.seconds / training.done
    rate = rates.get(of_any_seed(training.spec))
    return None if rate is None else left * rate


def all_left(trainings: Iterable[Training]) -> str:
    """What is left of all runs, for people."""
    trainings = list(trainings)
    known = rates(trainings)
    each = [seconds_left(training, known) for training in trainings if training.needed]
    unknown, seconds = each.count(None), sum(filter(None, each))
    if not unknown:
        return f"about {duration(seconds)}"
    others = f"{unknown} run{'s' if unknown > 1 else ''} of unknown length"
    return f"about {duration(seconds)} and {others}" if seconds else "unknown"


def duration(seconds: float) -> str:
    """For people: 12 min, or 3.5 h."""
    minutes = seconds / 60
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
