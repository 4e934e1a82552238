"""metrics.jsonl: a line for what a run measured, cut back to its last checkpoint when it goes on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from innerloop.runs.folder import set_aside


class Journal:
    """The lines that a run writes, in its folder. Used as a context, it is open.

    Args:
        folder: the run's.
        size: bytes that the run had written when it was saved; what comes after them is cut off, since it is written
            again. 0 begins anew.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder / "metrics.jsonl"
        if size:
            _cut(self.path, size, folder)
        else:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self._file = self.path.open("ab")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, iteration: int, numbers: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps({"iteration": iteration, **numbers}).encode() + b"\n")
        self._file.flush()

    def size(self) -> int:
        """Bytes that are written, now on disk."""
        os.fsync(self._file.fileno())
        return self._file.tell()


def read_metrics(path: Path) -> list[dict[str, float | None]]:
    """The lines of a run's metrics.jsonl, each with its "iteration".

    Raises:
        ValueError: a line is damaged.
    """
    found: list[dict[str, float | None]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if (values := _decoded(line)) is None:
            raise ValueError(
                f"line {number} of {path} is damaged. Delete the line; the run and its result do not need it."
            )
        found.append(values)
    return found


def _decoded(line: bytes) -> dict[str, float | None] | None:
    try:
        values = msgspec.json.decode(line, type=dict[str, float | None])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return values if values.get("iteration") is not None else None


def _cut(metrics: Path, size: int, folder: Path) -> None:
    """Keep the first `size` bytes; where they are not all there, or not all lines, the whole lines among them."""
    metrics.touch()
    kept = metrics.read_bytes()[:size]
    whole = b"".join(line for line in kept.splitlines(keepends=True) if line.endswith(b"\n") and _decoded(line))
    if len(whole) == size:
        os.truncate(metrics, size)
        return
    damaged = len(whole) < len(kept[: kept.rfind(b"\n") + 1])
    aside = set_aside(folder, metrics.name) if damaged else None  # whatever it is, it is somebody's
    metrics.write_bytes(whole)
    where = f" (what stood there is in {aside})" if aside else ""
    warnings.warn(f"lines of {metrics} are lost{where}; the run goes on from its weights without them", stacklevel=2)
