"""How the time of a training step grows with tasks, way, shot, steps and width, beside how its arithmetic grows.

python -m benchmarks.scaling --case a --algorithms maml anil --rounds 5 --out results/scaling.json  # and scaling.svg
python -m benchmarks.scaling --smoke  # does it run?
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import ours
from benchmarks.cases import CASES, Case
from benchmarks.compare import machine, say
from benchmarks.worker import seconds
from innerloop import tune_cpu

AXES = {
    "tasks": (1, 2, 4, 8, 16, 32, 64),
    "way": (2, 5, 10, 20),
    "shot": (1, 2, 5, 10),
    "steps": (1, 2, 5, 10),
    "filters": (8, 16, 32, 64),
}
SMOKE = {"size": 20, "filters": 4, "query": 2, "tasks": 2, "steps": 2}


@dataclass(frozen=True)
class Growth:
    """One axis: seconds of a step and its arithmetic, and the exponents of both in the value on the axis."""

    algorithm: str
    axis: str
    values: tuple[int, ...]
    numbers: tuple[tuple[float, ...], ...]  # seconds, a round each, for every value
    flops: tuple[int, ...]  # of convolutions and matrix products in one step, as PyTorch counts them
    slope: float  # of log seconds in log value
    slope_of_flops: float


class _Arithmetic(TorchDispatchMode):
    """Counts what convolutions and matrix products compute inside."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result


def flops(step: Callable[[], object]) -> int:
    with _Arithmetic() as counted:
        step()
    return counted.flops


def slope(values: tuple[int, ...], numbers: list[float]) -> float:
    """The exponent of the power law that fits best."""
    return float(np.polyfit(np.log(values), np.log(numbers), 1)[0])


def grow(base: Case, algorithm: str, axis: str, values: tuple[int, ...], rounds: int) -> Growth:
    """Round after round, each value in turn; the first round warms up and is not counted."""
    steps = [ours.train(replace(base, **{axis: value}), algorithm, chunk_size=lambda _: None) for value in values]
    counts = tuple(map(flops, steps))
    numbers: list[list[float]] = [[] for _ in values]
    for number in range(rounds + 1):
        for value, step, own in zip(values, steps, numbers, strict=True):
            say(f"{algorithm}, {axis} {value}: round {number} of {rounds}")
            own.append(seconds(step))
    say("")
    kept = tuple(tuple(own[1:]) for own in numbers)
    medians = [median(own) for own in kept]
    return Growth(algorithm, axis, values, kept, counts, slope(values, medians), slope(values, list(counts)))


def draw(grown: list[Growth], path: Path) -> None:
    """Seconds against each axis, and a line with the slope of the arithmetic through the middle value."""
    axes = list(dict.fromkeys(one.axis for one in grown))
    figure = Figure(figsize=(2.6 * len(axes), 2.8), layout="constrained")
    for panel, axis in zip(np.atleast_1d(figure.subplots(1, len(axes))), axes, strict=True):
        for number, one in enumerate(own for own in grown if own.axis == axis):
            medians, middle = [median(own) for own in one.numbers], len(one.values) // 2
            expected = [medians[middle] * count / one.flops[middle] for count in one.flops]
            label = f"{one.algorithm.upper()}: {one.slope:.2f} ({one.slope_of_flops:.2f})"
            panel.loglog(one.values, medians, "o-", color=f"C{number}", label=label)
            panel.loglog(one.values, expected, ":", color=f"C{number}")
        panel.set_xticks(values := grown[[own.axis for own in grown].index(axis)].values, list(map(str, values)))
        panel.minorticks_off()
        panel.set(xlabel=axis, title="slope (of the arithmetic)")
        panel.title.set_fontsize(8)
        panel.legend(fontsize=7, frameon=False)
    figure.supylabel("seconds a step")
    figure.savefig(path)


def table(grown: list[Growth]) -> str:
    lines = [f"{'':5}{'axis':9}{'slope':>7}{'flops':>7}  seconds a step"]
    for one in grown:
        pairs = zip(one.values, one.numbers, strict=True)
        told = ", ".join(f"{value}: {median(own):.4f}" for value, own in pairs)
        lines.append(f"{one.algorithm:5}{one.axis:9}{one.slope:7.2f}{one.slope_of_flops:7.2f}  {told}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", choices=list(CASES), default="a")
    parser.add_argument("--algorithms", nargs="+", choices=["maml", "anil"], default=["maml", "anil"])
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--smoke", action="store_true", help="tiny images and three values an axis: numbers mean nothing"
    )
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON, and a figure beside it as SVG")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    tune_cpu()
    base = replace(CASES[args.case], **SMOKE) if args.smoke else CASES[args.case]
    grown: list[Growth] = []
    for algorithm, axis in product(args.algorithms, args.axes):
        values = AXES[axis][:3] if args.smoke else AXES[axis]
        grown.append(grow(base, algorithm, axis, values, 1 if args.smoke else args.rounds))
        if args.out:  # after each axis: a run cut short loses nothing
            about = {"machine": machine(), "case": asdict(base), "threads": args.threads}
            args.out.write_text(json.dumps(about | {"growth": [asdict(one) for one in grown]}, indent=1))
            draw(grown, args.out.with_suffix(".svg"))
    print(table(grown))


if __name__ == "__main__":
    main()
