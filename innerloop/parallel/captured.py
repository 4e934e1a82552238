"""The whole outer step as one CUDA graph: the CPU gives one order a step and waits for nothing.

A step of MAML on small images is thousands of kernels of a few microseconds each; launched one by one, the GPU waits
for Python. Recorded once and played again they follow each other without a gap. The graph holds all of it: the draw of
the episodes from the bank, adaptation, meta-gradient, clipping, Adam, and the count of the steps. Capture by hand and
not `torch.cuda.make_graphed_callables` or `torch.compile(mode="reduce-overhead")`: those do not know second order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from innerloop.choices import Capture
from innerloop.parallel.step import Measured, Step, moments, number, trained

Play = Callable[[], object]
Recorder = Callable[[Callable[[], None]], Play]
"""Runs a function some times to warm up, records it, and returns what plays the record: the same work on the same
memory, with no Python in it."""

WARM_UPS = 3  # cuDNN, cuBLAS and the optimiser make what they need in their first calls


def cuda_graph(work: Callable[[], None]) -> Play:
    """Record `work` as a CUDA graph; it must not wait for the GPU.

    Raises:
        RuntimeError: it waits for the GPU, or does what cannot be recorded.
    """
    now, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(now)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS - 1):
            work()
        with _waiting_refused():
            work()
    now.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        work()
    return graph.replay


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Inside, waiting for the GPU is an error: before a capture it costs nothing, in one it breaks the capture."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class Captured:
    """A step that is recorded at its first call and played from then on; what cannot be recorded runs as it is.

    The optimiser's state must begin at zeros, as Adam's does, and stay on the device: Adam(capturable=True). Its
    learning rate is recorded with the step.

    Args:
        step: what is recorded; the reference, too.
        capture: "off" records nothing.
        recorder: how; by default as a CUDA graph where the parameters are on a GPU, and not at all elsewhere.
    """

    def __init__(self, step: Step, recorder: Recorder | None = None, *, capture: Capture = "auto") -> None:
        self.step = step
        on_gpu = trained(step.optimizer)[0].is_cuda
        self._recorder = None if capture == "off" else recorder or (cuda_graph if on_gpu else None)
        self._play: Play | None = None
        self._next = 0  # the number of the batch that the graph plays next
        self._moments: list[Tensor] = []  # of the optimiser, in whose memory the graph works

    def __call__(self, index: int) -> Measured:
        """Take the step on batch `index`; nothing here waits for the GPU."""
        if self._recorder is None:
            return self.step(number(index, self.step.optimizer))
        if self._play is None or self._moved():
            self._record(self._recorder)
        if self._play is None:
            return self(index)
        if index != self._next:
            self._index.fill_(index)
        self._play()
        self._next = index + 1
        return dict(zip(self._names, self._measured.clone().unbind(), strict=True))

    def _moved(self) -> bool:
        """Whether the optimiser has got other tensors, as `load_state_dict` gives it."""
        now = [value for _, value in moments(self.step.optimizer)]
        return len(now) != len(self._moments) or any(a is not b for a, b in zip(now, self._moments, strict=True))

    def _record(self, recorder: Recorder) -> None:
        self._play, self._next = None, -1
        self._index = number(0, self.step.optimizer)
        self._names: tuple[str, ...] = ()
        self._measured = torch.zeros(0)

        def work() -> None:
            measured = self.step(self._index)
            if not self._names:
                self._names = tuple(measured)
                self._measured = torch.stack([value.detach().float() for value in measured.values()])
            else:
                torch.stack([value.detach().float() for value in measured.values()], out=self._measured)
            self._index += 1

        reason = ""
        with _unchanged(self.step):
            try:
                self._play = recorder(work)
            except RuntimeError as error:
                reason = str(error).strip().split("\n")[0]
        if self._play is None:
            self._recorder = None
            warnings.warn(f"the outer step is not captured as a CUDA graph and runs slower ({reason})", stacklevel=4)
        self._moments = [value for _, value in moments(self.step.optimizer)]


@contextmanager
def _unchanged(step: Step) -> Iterator[None]:
    """Whatever runs inside, parameters, optimiser and random numbers are afterwards as before, in the same memory."""
    parameters = trained(step.optimizer)
    changing = [*parameters, *step.buffers]
    kept = [value.detach().clone() for value in changing]
    state = {place: value.clone() for place, value in moments(step.optimizer)}
    devices = sorted({p.device.index or 0 for p in parameters if p.is_cuda})
    with torch.random.fork_rng(devices):
        yield
    with torch.no_grad():
        for value, before in zip(changing, kept, strict=True):
            value.copy_(before)
        for place, value in moments(step.optimizer):
            value.copy_(state[place]) if place in state else value.zero_()
    step.optimizer.zero_grad()
