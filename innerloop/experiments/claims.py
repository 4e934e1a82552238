"""One process at a time on a run or a question, also where many machines share the store's disk.

A claim is a lease: a small file that its holder touches while it works. It ends with its holder: at once where that was
a process of this machine that is gone, and where it was another machine's, once nobody has touched the file for
`LEASE` seconds of watching it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

LEASE = 60.0  # seconds


class Claims:
    """The claims of one process in a store. It remembers how long it has watched the leases of others."""

    def __init__(self, store: Path) -> None:
        self._folder, self._seconds = store / "claims", LEASE
        self._leases: dict[str, SoftFileLease] = {}

    @contextmanager
    def held(self, name: str, *, patience: float = 0.0) -> Iterator[bool]:
        """Inside, whether the claim on a run or question of this name is ours; False: another process holds it.

        Args:
            name: of the run or question.
            patience: seconds to wait for it; `self.patience` of them tell whether a holder on another machine is gone.
        """
        if name not in self._leases:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{name}.lease"
            self._leases[name] = SoftFileLease(path, lease_duration=self._seconds, on_compromise=_end)
        lease = self._leases[name]
        try:
            lease.acquire(timeout=patience, poll_interval=self.pause)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lease.release()

    def touched(self, name: str) -> int | None:
        """When the holder of a lease last touched it, on the disk's clock; None: nobody holds one."""
        try:
            return (self._folder / f"{name}.lease").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    @property
    def pause(self) -> float:
        """Seconds between two looks at a lease."""
        return min(1.0, self._seconds / 10)

    @property
    def patience(self) -> float:
        """How long one has to watch a lease to know that its holder is gone."""
        return 1.2 * self._seconds


def _end(loss: LeaseCompromise) -> None:
    """This process slept, or its disk was away, for so long that another may be at the same run: write no more."""
    line = f"innerloop: lost {loss.lock_file} ({loss.reason}): another process may be at it. Give the command again."
    print(line, file=sys.stderr, flush=True)
    os._exit(75)  # as safe as kill -9, which a run survives
