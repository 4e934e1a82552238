"""Trajectories: what a policy did, and what it got for it.

Shapes: t tasks, n trajectories a task, h steps a trajectory, o numbers an observation, a numbers an action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.params import Params
from innerloop.rl.environment import Environment, Tasks
from innerloop.rl.policy import Policy, draw


class Trajectories(NamedTuple):
    """What happened, padded with zeros behind the end of a trajectory."""

    observations: Tensor  # (t, n, h, o)
    actions: Tensor  # (t, n, h, a) numbers, or (t, n, h) choices
    rewards: Tensor  # (t, n, h)
    taken: Tensor  # (t, n, h): 1 where a step was taken, 0 behind the end

    def returns(self) -> Tensor:
        """The mean undiscounted return of each task, (t,)."""
        return self.rewards.sum(-1).mean(-1)


@torch.no_grad()
def rollout(
    policy: Policy,
    params: Params,
    environment: Environment,
    tasks: Tasks,
    copies: int,
    generator: torch.Generator,
) -> Trajectories:
    """Act in every task until all trajectories have ended.

    Args:
        policy: says what `params` mean.
        params: of all tasks, (...), or of each, (t, ...).
        environment: the family of tasks.
        tasks: t of them.
        copies: n, trajectories of each.
        generator: where the environment and the policy draw from, on the CPU.

    Raises:
        ValueError: the policy says what is not finite.
    """
    like = next(iter(params.values()))
    observation = environment.reset(tasks, copies, generator)
    alive = torch.ones(observation.shape[:2], dtype=torch.bool)
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(environment.horizon):
        seen = observation.to(like) * alive.to(like).unsqueeze(-1)
        outputs = policy.outputs(params, seen)
        if not outputs.values.isfinite().all():
            raise ValueError(
                f"the policy has diverged: its outputs in {environment.title} are not finite. Lower the inner step "
                "size (lr) or max_kl"
            )
        action = draw(outputs, generator)
        observation, reward, ended = environment.step(action.cpu())
        taken = alive.to(like)
        steps.append((seen, action, reward.to(like) * taken, taken))
        alive = alive & ~ended
        if not alive.any():
            break
    return Trajectories(*(torch.stack(part, 2) for part in zip(*steps, strict=True)))
