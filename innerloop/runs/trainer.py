"""Training that survives: killed at any moment and started again, it ends in the same bits. It knows no image."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from innerloop.device import device_name, repeatable
from innerloop.runs.checkpoint import Checkpoint, load_checkpoint, load_weights, write_whole
from innerloop.runs.folder import Stop, claimed, is_trained, read_json, set_aside
from innerloop.runs.journal import Journal
from innerloop.runs.problem import Problem, Validation
from innerloop.runs.progress import Display
from innerloop.runs.run import Run
from innerloop.runs.schedule import Interrupted, Logging, Schedule

Start = Callable[[Mapping[str, Any]], Problem]
"""Makes the problem of a run from the metadata that its last checkpoint has; from nothing where there is none."""


def train(
    start: Start, schedule: Schedule, folder: Path, identity: Mapping[str, Any], logging: Logging | None = None
) -> dict[str, Any]:
    """Train a problem in a folder, going on where an earlier start of it stopped; then test the best weights.

    A run can be made longer: started again with more iterations, it goes on from its last one.

    The folder holds spec.json (`identity`), last.safetensors (all that a resumed run needs), best.safetensors (the
    weights that validation chose), at-N.safetensors (the weights after N iterations, as `keep` asks for), metrics.jsonl
    and, once tested, result.json, whose content is returned.

    Args:
        start: makes the problem; not called where the run is finished.
        schedule: when the run does what.
        folder: the run's own; made if it is not there.
        identity: the settings, as JSON: a folder is refused that holds a run with others ("iterations" may change).
        logging: what is written meanwhile.

    Raises:
        ValueError: the folder holds another run, or the problem cannot be made of these settings.
        Diverged: a number is not finite; the last checkpoint stays good.
        OSError: the folder cannot be written, or the disk is full; the last checkpoint stays good.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    run = training(start, schedule, folder, identity, logging, Stop())
    with repeatable():
        while True:
            try:
                next(run)
            except StopIteration as end:
                return end.value


Training = Generator[int, None, dict[str, Any]]
"""A run, iteration by iteration: it yields how many are done, before the first and after each, and returns the
result."""


def training(
    start: Start,
    schedule: Schedule,
    folder: Path,
    identity: Mapping[str, Any],
    logging: Logging | None,
    stop: Stop,
) -> Training:
    """As `train`, iteration by iteration; it ends after the one in which `stop` is asked."""
    if not os.access(folder, os.W_OK) and (result := finished(folder, identity)):
        return result  # on a disk that is only read
    with claimed(folder, identity):
        if result := finished(folder, identity):
            return result
        saved = _last_saved(folder)
        run = Run(start(saved.metadata["problem"] if saved else {}), folder, identity)
        if saved:
            run.restore(saved)
        if run.iteration > schedule.iterations:
            raise ValueError(
                f"{folder} is past iteration {schedule.iterations}, at {run.iteration}; ask for more, or choose "
                "another --out"
            )
        yield run.iteration
        yield from _train(run, schedule, logging or Logging(), saved.metadata["metrics_bytes"] if saved else 0, stop)
        result = _tested(run, schedule, identity)
        write_whole(folder / "result.json", json.dumps(result, indent=1).encode())
        return result


def _last_saved(folder: Path) -> Checkpoint | None:
    """The last checkpoint, if there is one; without it a run begins anew, and what was found before is set aside."""
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    if last.exists():
        if not best.exists():  # of a finished run, perhaps
            set_aside(folder, "result.json")
        return load_checkpoint(last)
    if not is_trained(folder) or (best.exists() and load_checkpoint(best).metadata["iteration"] == 0):
        return None  # nothing was trained
    if aside := set_aside(folder, "best.safetensors", "at-*.safetensors", "result.json", "metrics.jsonl"):
        warnings.warn(f"there is no {last}: the run begins anew; what was found before is in {aside}", stacklevel=2)
    return None


class Result(TypedDict):
    """What result.json holds."""

    spec: dict[str, Any]  # the settings
    test: dict[str, Any]  # as the problem measured it
    validation: dict[str, float | None]  # the one that chose the weights
    selection: str  # how they were chosen
    best_at: int  # the iteration of these weights
    train_seconds: float
    device: str
    torch: str  # its version


def finished(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that is finished; None of one that is not, or of another one.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "result.json"
    if not (path.exists() and (folder / "best.safetensors").exists()):
        return None
    result: Any = read_json(path, Result)
    return result if result["spec"] == json.loads(json.dumps(identity)) else None


def _train(run: Run, schedule: Schedule, logging: Logging, written: int, stop: Stop) -> Generator[int, None, None]:
    title = run.problem.title
    journal, tensorboard = Journal(run.folder, written), run.folder if logging.tensorboard else None
    begun, saved = time.monotonic() - run.seconds, time.monotonic()
    with journal, Display(title, schedule.iterations, run.iteration, tensorboard) as display, stop:
        if run.iteration == schedule.iterations and run.best is None:  # nothing to train, or the best one is lost
            run.validate(journal)
        while run.iteration < schedule.iterations:
            run.advance()
            run.seconds = time.monotonic() - begun
            ends = run.iteration == schedule.iterations
            if run.iteration % schedule.log_every == 0 or ends:
                display.trained(run.iteration, run.log(journal))
            validates = run.iteration % schedule.val_every == 0 or ends
            if validates:
                display.validates()
                if found := run.validate(journal):
                    display.validated(run.iteration, found.numbers)
            if schedule.keep and run.iteration % schedule.keep == 0:
                run.keep()
            if validates or stop.asked or time.monotonic() - saved > logging.checkpoint_seconds:
                run.save(journal)
                saved = time.monotonic()
            if stop.asked:
                raise Interrupted(
                    f"stopped after iteration {run.iteration} of {schedule.iterations}, saved in {run.folder}"
                )
            yield run.iteration


def _tested(run: Run, schedule: Schedule, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Test the best checkpoint; without a validation, the last weights."""
    if run.best is None:
        run.choose(Validation(0.0, {}))
    assert run.best is not None
    path = run.folder / "best.safetensors"
    load_weights(run.problem.network, load_checkpoint(path).tensors, path)
    validations = max(-(-schedule.iterations // schedule.val_every), 1) if run.best.numbers else 0
    return {
        "spec": json.loads(json.dumps(identity)),
        "test": run.problem.test(),
        "validation": run.best.numbers,
        "selection": f"best of {validations} validations" if validations else "the last weights",
        "best_at": run.best.at,
        "train_seconds": round(run.seconds, 1),
        "device": device_name(next(run.problem.network.parameters()).device),
        "torch": torch.__version__,
    }
