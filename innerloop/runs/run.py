"""How far a run is, and how it gets to disk and back, bit for bit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.runs.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from innerloop.runs.journal import Journal
from innerloop.runs.problem import Problem, Validation


class Diverged(ValueError):
    """A measured number or a weight is no number any more."""


class Best(NamedTuple):
    """What validation has chosen so far."""

    at: int  # iteration
    score: float
    numbers: dict[str, float | None]


@dataclass
class Run:
    """How far a run is, and how it gets to disk and back."""

    problem: Problem
    folder: Path
    identity: Mapping[str, Any]
    iteration: int = 0
    seconds: float = 0.0
    best: Best | None = None
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
        self.best = Best(self.iteration, found.score, found.numbers)
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
        metadata["identity"] = self.identity
        save_checkpoint(self.folder / "last.safetensors", tensors, metadata)

    def restore(self, saved: Checkpoint) -> None:
        """Go back to a checkpoint."""
        tensors, metadata = saved

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        load_weights(self.problem.network, part("network."), self.folder / "last.safetensors")
        self.problem.restore(part("state."))
        self.iteration, self.seconds, self.names = metadata["iteration"], metadata["seconds"], tuple(metadata["names"])
        self.best = Best(*metadata["best"]) if metadata["best"] else None
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
