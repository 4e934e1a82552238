"""Training that survives: killed at any moment and started again, it ends in the same bits. It knows no image."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.device import device_name, repeatable
from innerloop.runs.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint, write_whole
from innerloop.runs.folder import Stop, claimed, read_json
from innerloop.runs.journal import Journal
from innerloop.runs.problem import Problem, Validation
from innerloop.runs.progress import Display


@dataclass(frozen=True)
class Schedule:
    """When a run does what."""

    iterations: int = 10_000
    """meta-training steps; 0 leaves the first weights as they are (random features)"""
    val_every: int = 500
    """iterations between validations, which choose the best checkpoint"""
    log_every: int = 10
    """iterations averaged into one line of metrics"""
    keep: int = 0
    """iterations between checkpoints that are kept for later analyses; 0 keeps none"""

    def __post_init__(self) -> None:
        for name, least in (("iterations", 0), ("keep", 0), ("val_every", 1), ("log_every", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} {'must be at least 1' if least else 'must not be negative'}, got {value}")


@dataclass(frozen=True)
class Logging:
    """What a run writes while it trains."""

    checkpoint_seconds: float = 30.0
    """seconds between checkpoints; a kill costs at most these"""
    tensorboard: bool = False
    """write TensorBoard events into the run's folder too (needs the extra `track`)"""


class Interrupted(Exception):
    """The run stopped on request, in a state that goes on."""


class Diverged(ValueError):
    """A measured number or a weight is no number any more."""


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
    with claimed(folder, identity):
        if result := finished(folder, identity):
            return result
        last = folder / "last.safetensors"
        saved = load_checkpoint(last) if last.exists() else None
        run = _Run(start(saved.metadata["problem"] if saved else {}), schedule, folder)
        if saved:
            run.restore(saved)
        if run.iteration > schedule.iterations:
            raise ValueError(
                f"{folder} is past iteration {schedule.iterations}, at {run.iteration}; ask for more, or choose "
                "another --out"
            )
        yield run.iteration
        yield from _train(run, logging or Logging(), saved.metadata["metrics_bytes"] if saved else 0, stop)
        result = _tested(run, identity)
        write_whole(folder / "result.json", json.dumps(result, indent=1).encode())
        return result


def finished(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that is finished; None of one that is not, or of another one.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "result.json"
    result = read_json(path) if path.exists() else {}
    return result if result.get("spec") == json.loads(json.dumps(identity)) else None


class _Best(NamedTuple):
    at: int  # iteration
    score: float
    numbers: dict[str, float | None]


@dataclass
class _Run:
    """How far a run is, and how it gets to disk and back."""

    problem: Problem
    schedule: Schedule
    folder: Path
    iteration: int = 0
    seconds: float = 0.0
    best: _Best | None = None
    names: tuple[str, ...] = ()  # of what a step measures
    block: list[Tensor] = field(default_factory=list[Tensor])  # (names,) for each step since the last line of metrics

    def advance(self) -> None:
        """Take one step."""
        measured = self.problem.step(self.iteration + 1)
        self.iteration += 1
        self.names = tuple(measured)
        self.block.append(torch.stack([value.detach().float() for value in measured.values()]))

    def log(self, journal: Journal) -> dict[str, float]:
        """Write one line: the means over the steps since the last line."""
        self.check_finite()
        means = dict(zip(self.names, torch.stack(self.block).mean(0).tolist(), strict=True))
        self.block.clear()
        journal.write(self.iteration, means)
        return means

    def validate(self, journal: Journal) -> Validation | None:
        """Write a validation down, and the weights if they are the best so far."""
        self.check_finite()
        found = self.problem.validate()
        if found is None:
            return None
        journal.write(self.iteration, found.numbers)
        if self.best is None or found.score > self.best.score:
            self.choose(found)
        return found

    def choose(self, found: Validation) -> None:
        """Make these weights the best."""
        self.best = _Best(self.iteration, found.score, found.numbers)
        self._save_network("best", found.numbers)

    def keep(self) -> None:
        """Write the weights of this iteration, to stay."""
        self.check_finite()
        self._save_network(f"at-{self.iteration}", {})

    def _save_network(self, name: str, numbers: Mapping[str, Any]) -> None:
        metadata = self.problem.metadata() | {"iteration": self.iteration, **numbers}
        save_checkpoint(self.folder / f"{name}.safetensors", self.problem.network.state_dict(), metadata)

    def check_finite(self) -> None:
        """Refuse to go on, or to save, once a number or a weight is not finite."""
        weights = torch.stack([p.isfinite().all() for p in self.problem.network.parameters()]).all()
        fine = torch.stack(self.block).isfinite() if self.block else weights.new_ones(1, 1)
        if weights and fine.all():
            return
        bad = int(fine.all(1).int().argmin())  # the first of them
        what = f"iteration {self.iteration} made a weight"
        if not fine.all():
            name = self.names[int(fine[bad].int().argmin())]
            what = f"the {name} of iteration {self.iteration - len(fine) + 1 + bad} is"
        last = self.folder / "last.safetensors"
        good = f"The last good checkpoint is {last}" if last.exists() else "There is no checkpoint yet"
        raise Diverged(f"{what} not finite. {good}; {self.problem.remedy}.")

    def save(self, journal: Journal) -> None:
        """Write all that a resumed run needs."""
        self.check_finite()
        tensors = {f"network.{name}": value for name, value in self.problem.network.state_dict().items()}
        tensors |= {f"state.{name}": value for name, value in self.problem.state().items()}
        if self.block:
            tensors["block"] = torch.stack(self.block)
        metadata = {"iteration": self.iteration, "seconds": self.seconds, "best": self.best, "names": self.names}
        metadata |= {"problem": self.problem.metadata(), "metrics_bytes": journal.size()}
        save_checkpoint(self.folder / "last.safetensors", tensors, metadata)

    def restore(self, saved: Checkpoint) -> None:
        """Go back to a checkpoint."""
        tensors, metadata = saved

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        load_weights(self.problem.network, part("network."), self.folder / "last.safetensors")
        self.problem.restore(part("state."))
        self.iteration, self.seconds, self.names = metadata["iteration"], metadata["seconds"], tuple(metadata["names"])
        self.best = _Best(*metadata["best"]) if metadata["best"] else None
        device = next(self.problem.network.parameters()).device
        self.block = list(tensors["block"].to(device)) if "block" in tensors else []
        self._refresh_best()

    def _refresh_best(self) -> None:
        """Tell the best checkpoint what its problem has become, such as where data lie; forget one that is lost."""
        path = self.folder / "best.safetensors"
        if not path.exists():
            if self.best:
                warnings.warn(f"{path} is lost; the best of the validations from here on takes its place", stacklevel=2)
                self.best = None
            return
        tensors, metadata = load_checkpoint(path)
        now = metadata | json.loads(json.dumps(self.problem.metadata()))
        if now != metadata:
            save_checkpoint(path, tensors, now)


def _train(run: _Run, logging: Logging, written: int, stop: Stop) -> Generator[int, None, None]:
    schedule, title = run.schedule, run.problem.title
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
            if validates and (found := run.validate(journal)):
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


def _tested(run: _Run, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Test the best checkpoint; without a validation, the last weights."""
    if run.best is None:
        run.choose(Validation(0.0, {}))
    assert run.best is not None
    path = run.folder / "best.safetensors"
    load_weights(run.problem.network, load_checkpoint(path).tensors, path)
    validations = max(-(-run.schedule.iterations // run.schedule.val_every), 1) if run.best.numbers else 0
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
