"""A recorder without a GPU that keeps to the rules of a CUDA graph: what is played is operations on memory, no Python.

It notes every ATen operation and plays them again into the tensors that they made. What a graph cannot hold, a value
read by the CPU or a tensor made from Python's numbers, is refused as a GPU would refuse it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REFUSED = {"_local_scalar_dense", "nonzero", "lift_fresh", "repeat_interleave", "masked_select", "unique"}


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.notes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        if name in REFUSED:
            raise RuntimeError(f"called a synchronizing operation: {name}\nsecond line")
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.notes.append((func, args, kwargs or {}, out))
        return out

    def play(self):
        for func, args, kwargs, made in self.notes:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)


def tape(work):
    """A `Recorder`: warms up, records once, undoes nothing (recording runs the work, where a capture would not)."""
    for _ in range(2):
        work()
    recording = Tape()
    with recording:
        work()

    def play():
        with torch.no_grad():
            recording.play()

    return play
