"""2D-Navigation: walk from the origin to a goal that only the reward knows (Finn et al. 2017, section 5.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from innerloop.rl.environment import Actions, Tasks


class Navigation:
    """A point in the plane; the reward of a step is minus the distance to the goal after it.

    The defaults are those of tristandeleu/pytorch-maml-rl at 493e677, which the ANIL paper used: an action moves the
    point by at most 0.1 along each axis, and is not scaled before. cbfinn/maml_rl scales it by 0.1 first:
    `scale=0.1`.

    Args:
        horizon: steps of a trajectory, unless both coordinates come within 0.01 of the goal before.
        scale: what an action is multiplied by before it is clipped.
        reach: goals are uniform in [-reach, reach] along each axis.
    """

    title = "2D-Navigation"
    observations = 2
    actions = Actions(2)

    def __init__(self, horizon: int = 100, *, scale: float = 1.0, reach: float = 0.5) -> None:
        self.horizon, self.scale, self.reach = horizon, scale, reach
        self._goal = self._place = torch.zeros(0, 0, 2)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Goals, (t, 2)."""
        return self.reach * (2 * torch.rand(count, 2, generator=generator) - 1)

    def reset(self, tasks: Tasks, copies: int, generator: torch.Generator) -> Tensor:  # noqa: ARG002  it starts at the origin
        goals = torch.as_tensor(tasks, dtype=torch.float32)
        self._goal = goals[:, None].expand(-1, copies, -1)
        self._place = torch.zeros_like(self._goal)
        return self._place

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self._place = self._place + (self.scale * actions.cpu()).clamp(-0.1, 0.1)
        away = self._place - self._goal
        return self._place, -away.norm(dim=-1), (away.abs() < 0.01).all(-1)
