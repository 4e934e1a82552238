"""Whether the other processes of a training are alive, also while one waits for them in C++ and could not ask."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

BEAT, SILENCE = 2.0, 40.0
"""Seconds between two beats, and those without one after which a rank is taken for gone."""


class Store(Protocol):
    """The part of `torch.distributed.Store` that is used."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...


class Heartbeat:
    """While used as a context, beats for this rank and ends the process when another rank is silent for too long.

    A rank that has left its context in order says so, and is not missed.

    Args:
        store: what all ranks read and write.
        rank: of this process.
        size: how many there are.
        silence: seconds after which a rank is gone.
        leave: how the process ends, once the line is said; no exception reaches a thread that waits in C++.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        silence: float = SILENCE,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._store, self._rank, self._leave = store, rank, leave
        self._beat, self._silence = min(BEAT, silence / 4), silence
        self._others = [other for other in range(size) if other != rank]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(self._beat * 2)
        if kind is None or self._rank == 0:
            try:
                self._store.set(f"{self._rank}", "left")
            except RuntimeError:
                return

    def _run(self) -> None:
        seen = {other: (b"", time.monotonic()) for other in self._others}
        count = 0
        while not self._over.wait(self._beat):
            count += 1
            try:
                self._store.set(f"{self._rank}", f"{count}")
                now = {other: self._last(other) for other in self._others}
            except RuntimeError:
                return self._end("the process that holds the training's store is gone")
            for other, beat in now.items():
                if beat != seen[other][0] or beat == b"left":
                    seen[other] = beat, time.monotonic()
                elif time.monotonic() - seen[other][1] > self._silence:
                    return self._end(f"rank {other} is gone, nothing was heard of it for {self._silence:.0f} s")
        return None

    def _last(self, other: int) -> bytes:
        return self._store.get(f"{other}") if self._store.check([f"{other}"]) else b""

    def _end(self, what: str) -> None:
        if self._over.is_set():
            return
        line = f"innerloop: rank {self._rank}: {what}. Give the same command again: the run goes on from its last"
        print(f"{line} checkpoint", file=sys.stderr, flush=True)
        self._leave(1)
