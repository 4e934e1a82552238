"""What a run is made of while it trains, and how it gets to disk and back, bit for bit."""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from innerloop.evaluation import Score
from innerloop.outer import Step
from innerloop.runs.checkpoint import load_checkpoint, load_weights, pack_optimizer, save_checkpoint, unpack_optimizer
from innerloop.runs.config import Spec, as_dict

_GOES_ON = ("iteration", "best", "best_at", "seconds")  # of a resumed run


class Diverged(ValueError):
    """A loss or a weight is no number any more."""


@dataclass
class Run:
    """A run in its folder: last.safetensors goes on, best.safetensors is what it found, metrics.jsonl what it saw."""

    spec: Spec
    out: Path
    shape: tuple[int, int, int]
    model: nn.Module
    adam: torch.optim.Optimizer
    iteration: int = 0
    best: float = -1.0  # validation accuracy
    best_at: int = 0
    seconds: float = 0.0
    classes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # of each part of a folder
    source: str | None = None  # where the data lay
    block: list[Tensor] = field(default_factory=list[Tensor])  # (loss, accuracy) since the last line of metrics

    def advance(self, step: Step) -> None:
        """Count one training step."""
        assert step.accuracy is not None
        self.iteration += 1
        self.block.append(torch.stack([step.loss, step.accuracy]))

    def log(self, metrics: BinaryIO) -> tuple[float, float]:
        """Write one line: the means of loss and accuracy over the steps since the last line."""
        self.check_finite()
        loss, accuracy = torch.stack(self.block).mean(0).tolist()
        self.block.clear()
        _write(metrics, {"iteration": self.iteration, "loss": loss, "accuracy": accuracy})
        return loss, accuracy

    def validated(self, score: Score, metrics: BinaryIO) -> None:
        """Write a validation down, and the weights if they are the best so far."""
        interval = number(score.interval)
        _write(metrics, {"iteration": self.iteration, "val_accuracy": score.mean, "val_interval": interval})
        if score.mean > self.best:
            self.best, self.best_at = score.mean, self.iteration
            self._save_network("best", {"val_accuracy": score.mean, "statistics": score.statistics})

    def keep(self) -> None:
        """Write the weights of this iteration, to stay."""
        self.check_finite()
        self._save_network(f"at-{self.iteration}", {})

    def _save_network(self, name: str, more: dict[str, Any]) -> None:
        metadata = {"spec": as_dict(self.spec), "shape": self.shape, "iteration": self.iteration}
        metadata |= {"classes": self.classes, "source": self.source}
        save_checkpoint(self.out / f"{name}.safetensors", self.model.state_dict(), metadata | more)

    def _refresh_best(self) -> None:
        """Tell the best checkpoint where its data lies now, and what was trained on since; forget one that is lost."""
        path = self.out / "best.safetensors"
        if not path.exists():
            if self.best >= 0:
                warnings.warn(f"{path} is lost; the best of the validations from here on takes its place", stacklevel=2)
                self.best, self.best_at = -1.0, 0
            return
        tensors, metadata = load_checkpoint(path)
        now = {"classes": self.classes, "source": self.source}
        if {key: metadata.get(key) for key in now} != now:
            save_checkpoint(path, tensors, metadata | now)

    def check_finite(self) -> None:
        """Refuse to go on, or to save, once a loss or a weight is not finite."""
        weights = torch.stack([p.isfinite().all() for p in self.model.parameters()]).all()
        losses = torch.stack(self.block).isfinite().all(1) if self.block else weights.new_ones(1)
        if weights and losses.all():
            return
        bad = self.iteration - len(losses) + 1 + int(losses.int().argmin())  # the first of them
        what = f"iteration {self.iteration} made a weight" if losses.all() else f"the loss of iteration {bad} is"
        last = self.out / "last.safetensors"
        good = f"The last good checkpoint is {last}" if last.exists() else "There is no checkpoint yet"
        raise Diverged(f"{what} not finite. {good}; try a lower --lr, --meta-lr or --clip.")

    def save(self, metrics: BinaryIO) -> None:
        """Write all that a resumed run needs."""
        self.check_finite()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"adam.{name}": value for name, value in pack_optimizer(self.adam).items()}
        tensors["random"] = torch.get_rng_state()
        if self.block:
            tensors["block"] = torch.stack(self.block)
        metadata: dict[str, Any] = {key: getattr(self, key) for key in (*_GOES_ON, "shape", "classes", "source")}
        os.fsync(metrics.fileno())
        save_checkpoint(self.out / "last.safetensors", tensors, metadata | {"metrics_bytes": metrics.tell()})

    def restore(self) -> None:
        """Go back to the last checkpoint, if there is one, and cut off the metrics written after it."""
        path, metrics = self.out / "last.safetensors", self.out / "metrics.jsonl"
        if not path.exists():
            metrics.unlink(missing_ok=True)
            return
        tensors, metadata = load_checkpoint(path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        load_weights(self.model, part("model."), path)
        unpack_optimizer(self.adam, part("adam."))
        torch.set_rng_state(tensors["random"])
        _cut(metrics, metadata.pop("metrics_bytes"))
        for key in _GOES_ON:
            setattr(self, key, metadata[key])
        trained = {*metadata.get("classes", {}).get("train", ()), *self.classes.get("train", ())}
        if trained:  # a class that was trained on stays one
            self.classes = self.classes | {"train": sorted(trained)}
        self._refresh_best()
        device = next(self.model.parameters()).device
        self.block = list(tensors["block"].to(device)) if "block" in tensors else []


def _cut(metrics: Path, size: int) -> None:
    """Keep the first `size` bytes; where they are not all there, the whole lines among those that are."""
    metrics.touch()
    kept = metrics.read_bytes()[:size]
    if len(kept) < size:
        kept = kept[: kept.rfind(b"\n") + 1]
        warnings.warn(f"lines of {metrics} are lost; the run goes on from its weights without them", stacklevel=2)
    os.truncate(metrics, len(kept))


def number(value: float) -> float | None:
    """For JSON, which has no NaN: what is not known, as the interval of a single episode, is null."""
    return None if math.isnan(value) else value


def _write(metrics: BinaryIO, line: dict[str, Any]) -> None:
    metrics.write(json.dumps(line).encode() + b"\n")
    metrics.flush()
