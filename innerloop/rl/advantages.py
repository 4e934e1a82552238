"""How much better an action was than usual: discounted returns, a linear baseline, GAE.

Shapes: t tasks, n trajectories a task, h steps a trajectory, f features of a state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.rl.options import Advantage
from innerloop.rl.rollout import Trajectories


class Samples(NamedTuple):
    """Trajectories as the objectives see them: one row of states a task, x = n h of them."""

    observations: Tensor  # (t, x, o)
    actions: Tensor  # (t, x, a) or (t, x)
    advantages: Tensor  # (t, x)
    weights: Tensor  # (t, x): the mean over steps, then over trajectories; they sum to 1 in each task

    def tasks(self, start: int, stop: int) -> Samples:
        """A part of the tasks."""
        return Samples(*(part[start:stop] for part in self))


def samples(trajectories: Trajectories, coefficients: Tensor, how: Advantage) -> Samples:
    """Advantages from a baseline's coefficients, normalised in each task, with the weights of the mean."""
    advantages = normalised(gae(trajectories, values(trajectories, coefficients), how), trajectories.taken)
    return _samples(trajectories, advantages, 1)


def _samples(trajectories: Trajectories, advantages: Tensor, every: int) -> Samples:
    """The rows of every `every`-th step."""
    taken = trajectories.taken[:, :, ::every]
    weights = taken / taken.sum(-1, keepdim=True) / taken.shape[1]
    parts = (trajectories.observations[:, :, ::every], trajectories.actions[:, :, ::every])
    return Samples(*(part.flatten(1, 2) for part in (*parts, advantages[:, :, ::every], weights)))


def thinned(whole: Samples, trajectories: Trajectories, every: int) -> Samples:
    """Every `every`-th step of each trajectory."""
    return _samples(trajectories, whole.advantages.view_as(trajectories.rewards), every) if every > 1 else whole


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """What is still to come at each step, (..., h): the last step's own reward is all that is left for it."""
    total, result = torch.zeros_like(rewards[..., 0]), torch.empty_like(rewards)
    for step in reversed(range(rewards.shape[-1])):
        total = rewards[..., step] + discount * total
        result[..., step] = total
    return result


def features(trajectories: Trajectories) -> Tensor:
    """[o, o^2, u, u^2, u^3, 1] with u = (number of the step, from 1) / 100; (t, n, h, f), zero behind the end."""
    taken = trajectories.taken.double().unsqueeze(-1)
    observations, u = trajectories.observations.double(), taken.cumsum(-2) / 100
    return taken * torch.cat([observations, observations**2, u, u**2, u**3, torch.ones_like(u)], -1)


def fit(trajectories: Trajectories, how: Advantage) -> Tensor:
    """Coefficients of a linear baseline in each task, (t, f), float64: ridge regression on the discounted returns.

    Raises:
        ValueError: rewards or observations are not finite.
    """
    x = features(trajectories).flatten(1, 2)
    y = discounted(trajectories.rewards.double(), how.discount).flatten(1, 2).unsqueeze(-1)
    square, right = x.mT @ x, x.mT @ y
    if not (square.isfinite().all() and right.isfinite().all()):
        raise ValueError("the environment gave observations or rewards that are not finite: bound them in its step()")
    ridge, eye = how.ridge, torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    for _ in range(10):
        solution, info = torch.linalg.solve_ex(square + ridge * eye, right)
        if not info.any() and solution.isfinite().all():
            return solution.squeeze(-1)
        ridge *= 10
    raise ValueError("no linear baseline fits these returns; scale the rewards down")


def values(trajectories: Trajectories, coefficients: Tensor) -> Tensor:
    """What a baseline expects from each state on, (t, n, h), zero behind the end."""
    return torch.einsum("tnhf,tf->tnh", features(trajectories), coefficients).to(trajectories.rewards)


def gae(trajectories: Trajectories, values: Tensor, how: Advantage) -> Tensor:
    """Generalised advantage estimates, (t, n, h). Nothing is expected after the last step, also where time ran out."""
    after = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    errors = (trajectories.rewards + how.discount * after - values) * trajectories.taken
    return discounted(errors, how.discount * how.smoothing)


def normalised(advantages: Tensor, taken: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the steps taken in each task; 0 where all of them are equal."""
    whole = (-2, -1)
    count = taken.sum(whole, keepdim=True)
    mean = (advantages * taken).sum(whole, keepdim=True) / count
    away = (advantages - mean) * taken
    std = ((away * away).sum(whole, keepdim=True) / count).sqrt()
    noise = 10 * torch.finfo(advantages.dtype).eps * advantages.abs().amax(whole, keepdim=True)
    return torch.where(std > noise, away / (std + 1e-8), torch.zeros_like(away))
