"""One contender in one process: for every line on stdin it runs once and prints a number on stdout.

Seconds of one run for `train` and `adapt`; for `memory`, the MiB that training needs above what the process held when
everything was imported and the images, the network and the optimiser were there.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.cases import CASES
from benchmarks.contenders import contender

SHORTEST = 0.3  # seconds: what is faster runs several times for one number
STEPS = 3  # training steps that the memory is measured over


def seconds(run: Callable[[], object]) -> float:
    """Mean seconds of a run."""
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < SHORTEST:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def mebibytes(run: Callable[[], object]) -> float:
    """Peak resident memory of a few runs above that at the start; Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # lowers the peak to what is resident now
    before = resident("VmRSS")
    for _ in range(STEPS):
        run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, f"/proc/self/status has no {field}"
    return int(found[1]) / 1024


def main(name: str, case: str, algorithm: str, what: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    who = contender(name)
    who.start()
    run = (who.adapt if what == "adapt" else who.train)(CASES[case], algorithm)
    measure = mebibytes if what == "memory" else seconds
    for _ in sys.stdin:
        print(measure(run), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
