"""One table of speed on one device: innerloop eager, captured and with three seeds, beside the peers on that device.

Milliseconds of a meta-training step and of one adapt-and-predict, peak memory, and which share of the device's own
measured ceilings, of a matrix product and of a copy, the step reaches.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ours, peers
from benchmarks.cases import CASES, Case
from innerloop.parallel.captured import Captured, cuda_graph
from innerloop.parallel.seeds import SeedsStep
from innerloop.parallel.step import OuterStep, number
from innerloop.tasks import Episodes

ALGORITHMS = ("maml", "fomaml", "anil")
SEEDS = 3
TINY = {  # rehearsed on a CPU
    letter: replace(case, tasks=2, query=1, size=16 if case.stride == 1 else 10, filters=4, steps=2, adapt_steps=2)
    for letter, case in CASES.items()
}


class Ceilings(NamedTuple):
    """What the device does at best."""

    flops: float  # floating-point operations a second, of a large matrix product in float32 as torch is set
    bytes: float  # read and written a second, of a large copy


@dataclass(frozen=True)
class Row:
    """One contender in one case."""

    case: str
    algorithm: str
    contender: str
    step_ms: float | None = None
    adapt_ms: float | None = None
    peak_mib: float | None = None  # of the device, in training
    of_product: float | None = None  # share of `Ceilings.flops`
    of_copy: float | None = None  # share of `Ceilings.bytes`
    failed: str = ""


class Fixed:
    """The same batch under every number."""

    def __init__(self, batch: Episodes) -> None:
        self.batch = batch

    def at(self, index: Tensor) -> Episodes:  # noqa: ARG002
        return self.batch


Timed = tuple[Callable[[], object], Callable[[], object] | None]
"""A training step and an adapt-and-predict."""


def outer_step(case: Case, algorithm: str) -> OuterStep:
    model = ours.network(case)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, capturable=case.device == "cuda")
    return OuterStep(
        model, Fixed(ours.episodes(case.data())), ours.rule(case, algorithm, case.steps), adam, chunk_size=case.tasks
    )


def eager(case: Case, algorithm: str) -> Timed:
    step = outer_step(case, algorithm)
    return lambda: step(number(0, step.optimizer)), ours.adapt(case, algorithm)


def captured(case: Case, algorithm: str) -> Timed:
    step, adapt = Captured(outer_step(case, algorithm)), ours.adapt(case, algorithm)

    def work() -> None:
        adapt()

    return lambda: step(0), cuda_graph(work) if case.device == "cuda" else adapt


def seeds(case: Case, algorithm: str) -> Timed:
    single = outer_step(case, algorithm)
    models = [ours.network(case) for _ in range(SEEDS)]
    adam = partial(torch.optim.Adam, lr=1e-3, capturable=case.device == "cuda")
    step = Captured(SeedsStep(models, [single.stream] * SEEDS, single.predictor, adam))
    return lambda: step(0), None


def _peer(name: str, case: Case, algorithm: str) -> Timed:
    train, adapt = getattr(peers, f"{name}_train"), getattr(peers, f"{name}_adapt")
    return train(case, algorithm), adapt(case, algorithm)


CONTENDERS: dict[str, Callable[[Case, str], Timed]] = {
    "ours, eager": eager,
    "ours, captured": captured,
    f"ours, captured, {SEEDS} seeds": seeds,
    "textbook": partial(_peer, "textbook"),
    "higher": partial(_peer, "higher"),
}


def rows(
    device: str, cases: dict[str, Case], seconds: float, ceilings: Ceilings, done: Collection[tuple[str, ...]] = ()
) -> Iterator[Row]:
    """Measure one contender after the other, each timing for about `seconds`; not what is `done`."""
    for letter, case in cases.items():
        case = replace(case, device=device)
        for algorithm in ALGORITHMS:
            left = {name: make for name, make in CONTENDERS.items() if (letter, algorithm, name) not in done}
            work = Work.of(partial(*_step_of(case, algorithm))) if left else None
            for name, make in left.items():
                peer = name in ("textbook", "higher")
                if (peer and algorithm == "fomaml") or (name == "higher" and not find_spec("higher")):
                    continue
                yield _row(letter, case, algorithm, name, make, seconds, work if not peer else None, ceilings)


def _step_of(case: Case, algorithm: str) -> tuple[OuterStep, Tensor]:
    step = outer_step(case, algorithm)
    return step, number(0, step.optimizer)


def _row(
    letter: str,
    case: Case,
    algorithm: str,
    name: str,
    make: Callable[[Case, str], Timed],
    seconds: float,
    work: Work | None,
    ceilings: Ceilings,
) -> Row:
    row = Row(letter, algorithm, name)
    try:
        if case.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        train, adapt = make(case, algorithm)
        step = took(train, case.device, seconds)
        peak = torch.cuda.max_memory_allocated() / 2**20 if case.device == "cuda" else None
        row = replace(row, step_ms=step * 1e3, peak_mib=peak)
        if work:
            copies = SEEDS if "seeds" in name else 1
            shares = work.flops * copies / step / ceilings.flops, work.bytes * copies / step / ceilings.bytes
            row = replace(row, of_product=shares[0], of_copy=shares[1])
        if adapt:
            row = replace(row, adapt_ms=took(adapt, case.device, seconds) * 1e3)
    except Exception as error:  # whatever a contender does, the table goes on
        return replace(row, failed=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return row


def took(work: Callable[[], object], device: str, seconds: float) -> float:
    """Seconds of one call: two warm up, then as many as fit are timed together, so that the CPU can run ahead."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def calls(count: int) -> float:
        wait()
        begun = time.perf_counter()
        for _ in range(count):
            work()
        wait()
        return (time.perf_counter() - begun) / count

    calls(2)
    first = calls(1)
    return calls(max(1, int(seconds / max(first, 1e-6)))) if first < seconds else first


def ceilings(device: str, *, tiny: bool = False) -> Ceilings:
    """Measure them: C = A B of n x n, and a copy of 64 n x n."""
    n, seconds = (256, 0.05) if tiny else (8192, 1.0)
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    product = took(lambda: a @ b, device, seconds)
    source = torch.empty(2**20 if tiny else 2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = took(lambda: target.copy_(source), device, seconds)
    return Ceilings(2 * n**3 / product, 2 * source.numel() / copy)


class Work(NamedTuple):
    """What a step has to do, counted by operation as it runs eager."""

    flops: int
    bytes: int  # that its operations read and write, each for itself

    @classmethod
    def of(cls, step: Callable[[], object]) -> Work:
        """Count one call."""
        step()  # the optimiser makes its state
        with FlopCounterMode(display=False) as flops, _Bytes() as moved:
            step()
        return cls(flops.get_total_flops(), moved.count)


class _Bytes(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.count += sum(x.numel() * x.element_size() for x in tensors)
        return out


def table(found: Sequence[Row], limits: Ceilings, device: str) -> str:
    """As Markdown."""

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    lines = [
        f"{device}, torch {torch.__version__}. A matrix product in float32 as torch is set (TF32: "
        f"{'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}) reaches {limits.flops / 1e12:.3g} TFLOP/s, "
        f"a copy {limits.bytes / 1e9:.3g} GB/s read and written. On a CPU nothing is captured.",
        "",
        "| case | algorithm | who | meta-step, ms | adapt and predict, ms | peak, MiB | of product | of copy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        numbers = [
            row.failed or cell(row.step_ms, "{:.3g}"), cell(row.adapt_ms, "{:.3g}"), cell(row.peak_mib, "{:.0f}"),
            cell(row.of_product, "{:.1%}"), cell(row.of_copy, "{:.1%}"),
        ]  # fmt: skip
        lines.append(f"| {' | '.join([row.case, row.algorithm, row.contender, *numbers])} |")
    return "\n".join(lines)
