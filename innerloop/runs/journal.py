"""metrics.jsonl: a line for what a run measured, cut back to its last checkpoint when it goes on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


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
            _cut(self.path, size)
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


def _cut(metrics: Path, size: int) -> None:
    """Keep the first `size` bytes; where they are not all there, the whole lines among those that are."""
    metrics.touch()
    kept = metrics.read_bytes()[:size]
    if len(kept) < size:
        kept = kept[: kept.rfind(b"\n") + 1]
        warnings.warn(f"lines of {metrics} are lost; the run goes on from its weights without them", stacklevel=2)
    os.truncate(metrics, len(kept))
