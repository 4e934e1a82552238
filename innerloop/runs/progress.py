"""What a run shows while it trains: a bar on a terminal, a line now and then elsewhere, TensorBoard on request."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_QUIET_SECONDS = 30.0  # between lines where there is no terminal


class Display:
    """Shows rate, time left, loss, training and validation accuracy; on stderr, so that stdout holds results alone."""

    def __init__(self, title: str, iterations: int, done: int, tensorboard: Path | None) -> None:
        self.iterations, self.done, self.start = iterations, done, time.monotonic()
        self.spoken, self.validation = self.start, ""
        columns = (BarColumn(10), MofNCompleteColumn(), TimeRemainingColumn())  # all of it fits into 80 letters
        self.bar = Progress(*columns, TextColumn("{task.fields[about]}"), console=Console(stderr=True))
        self.task = self.bar.add_task(title, total=iterations, completed=done, about="")
        self.title = title
        self.events = _events(tensorboard, done) if tensorboard else None

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar.live.is_started:
            self.bar.stop()
        if self.events:
            self.events.close()

    def trained(self, iteration: int, loss: float, accuracy: float) -> None:
        """After a block of steps."""
        rate = (iteration - self.done) / max(time.monotonic() - self.start, 1e-9)
        about = f"{rate:.2f} it/s  loss {loss:.3f}  train {accuracy:.1%}{self.validation}"
        self.bar.update(self.task, completed=iteration, about=about)
        if not sys.stderr.isatty() and time.monotonic() - self.spoken > _QUIET_SECONDS:
            self.spoken = time.monotonic()
            left = (self.iterations - iteration) / rate
            line = f"{self.title}  {iteration}/{self.iterations}  {about}  {left / 60:.1f} min left"
            print(line, file=sys.stderr, flush=True)
        if self.events:
            self.events.add_scalar("train/loss", loss, iteration)
            self.events.add_scalar("train/accuracy", accuracy, iteration)

    def validated(self, iteration: int, accuracy: float) -> None:
        """After a validation."""
        self.validation = f"  val {accuracy:.1%}"
        if self.events:
            self.events.add_scalar("val/accuracy", accuracy, iteration)


def _events(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed: pip install '.[track]' in its checkout") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done)
