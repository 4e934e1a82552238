"""What a run shows while it trains: a bar on a terminal, a line now and then elsewhere, TensorBoard on request."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from innerloop.progress import on_terminal, silent

_QUIET_SECONDS = 30.0  # between lines where there is no terminal


class Display:
    """Shows rate, time left and what is measured; on stderr, so that stdout holds results alone."""

    def __init__(self, title: str, iterations: int, done: int, tensorboard: Path | None) -> None:
        self.iterations, self.done, self.start = iterations, done, time.monotonic()
        self.spoken, self.validation = self.start, ""
        columns = (BarColumn(10), MofNCompleteColumn(), TimeRemainingColumn())  # all of it fits into 80 letters
        self.bar = Progress(*columns, TextColumn("{task.fields[about]}"), console=Console(stderr=True))
        self.task = self.bar.add_task(title, total=iterations, completed=done, about="")
        self.title = title
        self.events = _events(tensorboard, done) if tensorboard else None

    def __enter__(self) -> Display:
        if on_terminal():
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar.live.is_started:
            self.bar.stop()
        if self.events:
            self.events.close()

    def trained(self, iteration: int, means: Mapping[str, float]) -> None:
        """After a block of steps."""
        rate = (iteration - self.done) / max(time.monotonic() - self.start, 1e-9)
        about = "  ".join((f"{rate:.2f} it/s", *map(_text, means, means.values())))
        about += self.validation
        self.bar.update(self.task, completed=iteration, about=about)
        if not (sys.stderr.isatty() or silent()) and time.monotonic() - self.spoken > _QUIET_SECONDS:
            self.spoken = time.monotonic()
            left = (self.iterations - iteration) / rate
            line = f"{self.title}  {iteration}/{self.iterations}  {about}  {left / 60:.1f} min left"
            print(line, file=sys.stderr, flush=True)
        self._event("train", iteration, means)

    def validates(self) -> None:
        """Before a validation, which may take a while."""
        self.bar.update(self.task, about="validating")

    def validated(self, iteration: int, numbers: Mapping[str, float | None]) -> None:
        """After a validation; the first of its numbers is shown."""
        name, value = next(iter(numbers.items()))
        self.validation = f"  {_text(name, value)}"
        self._event("val", iteration, {name: value})

    def _event(self, part: str, iteration: int, numbers: Mapping[str, float | None]) -> None:
        for name, value in numbers.items() if self.events else ():
            self.events.add_scalar(f"{part}/{name.removeprefix('val_')}", value, iteration)  # pyright: ignore[reportOptionalMemberAccess]


def _text(name: str, value: float | None) -> str:
    """Such as loss 0.998, train 51.5%, val 34.5%: accuracies as people know them, and all else by its name."""
    if value is None:
        return f"{name} ?"
    if name in ("accuracy", "val_accuracy"):
        return f"{'val' if name.startswith('val') else 'train'} {value:.1%}"
    return f"{name} {value:.3f}"


def _events(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed: pip install '.[track]' in its checkout") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done)
