"""What an environment has to offer: many copies of it, of many tasks, that take each step together.

Shapes: t tasks, n trajectories a task, o numbers an observation, a numbers an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Tasks = Sequence[Any] | Tensor
"""t of them: numbers with t first, or whatever an environment calls its tasks."""


class Actions(NamedTuple):
    """What a policy may do: `size` numbers between any bounds, or one of `size` choices."""

    size: int
    discrete: bool = False


class Environment(Protocol):
    """A family of tasks that share observations and actions; it holds the state of its copies."""

    title: str  # what progress and reports call it
    observations: int  # numbers in an observation
    actions: Actions
    horizon: int  # steps after which every trajectory ends

    def sample(self, count: int, generator: torch.Generator) -> Tasks:
        """`count` tasks."""
        ...

    def reset(self, tasks: Tasks, copies: int, generator: torch.Generator) -> Tensor:
        """Start `copies` trajectories of every task; return their first observations, (t, n, o), float32."""
        ...

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take a step everywhere, given (t, n, a) numbers or (t, n) choices.

        Returns the observations, (t, n, o), the rewards, (t, n), and which trajectories ended, (t, n). What comes
        after the end of a trajectory is ignored.
        """
        ...
