"""What is timed: three few-shot problems of the MAML papers, on random images fixed by a seed.

Shapes: t tasks, s support items and q query items a task, c channels, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # support x, support y, query x, query y


@dataclass(frozen=True)
class Case:
    """One problem: its episodes, its network, its inner loop."""

    about: str
    tasks: int  # in one meta batch
    way: int
    shot: int  # support images a class
    query: int  # query images a class
    channels: int
    size: int  # pixels a side
    filters: int
    stride: int  # 1: a 2x2 max pool ends each block, features are flattened; 2: no pool, their mean over space
    lr: float  # of the inner loop
    steps: int = 5  # of the inner loop in training
    adapt_steps: int = 10  # of the inner loop at test
    device: str = "cpu"

    def data(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> Data:
        """The meta batch: x (t, s, c, h, w) in [0, 1], y (t, s), items label after label."""
        generator = torch.Generator().manual_seed(seed)

        def part(count: int) -> tuple[Tensor, Tensor]:
            shape = (self.tasks, self.way * count, self.channels, self.size, self.size)
            x = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
            y = torch.arange(self.way).repeat_interleave(count).repeat(self.tasks, 1)
            return x.to(self.device), y.to(self.device)

        return *part(self.shot), *part(self.query)


CASES = {
    "a": Case("mini-ImageNet 5-way 1-shot", 4, 5, 1, 15, channels=3, size=84, filters=32, stride=1, lr=0.01),
    "b": Case("mini-ImageNet 5-way 5-shot", 4, 5, 5, 15, channels=3, size=84, filters=32, stride=1, lr=0.01),
    "c": Case("Omniglot 20-way 1-shot", 16, 20, 1, 1, channels=1, size=28, filters=64, stride=2, lr=0.1),
}
