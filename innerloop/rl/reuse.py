"""Rapid learning or feature reuse, of policies: what the inner loop does to each layer, as for images.

Shapes: t tasks, n trajectories a task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.algorithms import freeze
from innerloop.inner import InnerLoop
from innerloop.rl.environment import Environment
from innerloop.rl.meta import collect
from innerloop.rl.options import Advantage
from innerloop.rl.policy import Policy, run
from innerloop.similarity import linear_cka, mean_cca, weight_distance


@dataclass(frozen=True)
class Change:
    """How far adaptation moves each layer: means over tasks, by layer."""

    cca: dict[str, float]  # between the layer's outputs, in the states that the adapted policy visits, before and after
    cka: dict[str, float]
    permuted_cca: dict[str, float]  # of the same outputs, each state with another one: what chance gives
    permuted_cka: dict[str, float]
    distance: dict[str, float]  # Euclidean, between its weights before and after
    length: dict[str, float]  # Euclidean, of its weights before
    tasks: int


def freezing(
    policy: Policy,
    environment: Environment,
    inner: InnerLoop,
    seed: int,
    *,
    tasks: int = 40,
    trajectories: int = 20,
    advantage: Advantage | None = None,
) -> list[Tensor]:
    """Returns, (k + 1, t) each, with the first 0, 1, ... layers frozen in the inner loop; at last all but the head.

    The tasks, and what is done in them before adaptation, are the same each time.
    """
    body = policy.layers[:-1]
    results: list[Tensor] = []
    for count in range(len(body) + 1):
        generator = torch.Generator().manual_seed(seed)
        new = environment.sample(tasks, generator)
        seen = collect(
            policy,
            environment,
            new,
            freeze(inner, *body[:count]),
            generator,
            trajectories=trajectories,
            advantage=advantage,
        )
        results.append(seen.returns())
    return results


def change(
    policy: Policy,
    environment: Environment,
    inner: InnerLoop,
    seed: int,
    *,
    tasks: int = 40,
    trajectories: int = 20,
    advantage: Advantage | None = None,
) -> Change:
    """Compare each layer before and after adaptation, task by task, in the states that the adapted policy visits."""
    generator = torch.Generator().manual_seed(seed)
    new = environment.sample(tasks, generator)
    seen = collect(policy, environment, new, inner, generator, trajectories=trajectories, advantage=advantage)
    last, sides = seen.tried[-1], (seen.path[0], seen.path[-1])
    found: dict[str, list[list[float]]] = {"cca": [], "cka": [], "permuted_cca": [], "permuted_cka": []}
    for task in range(tasks):
        states = last.observations[task][last.taken[task] > 0].unsqueeze(0)
        pre, post = (_said(policy, {name: p[task : task + 1] for name, p in side.items()}, states) for side in sides)
        other = torch.randperm(states.shape[1], generator=generator)
        found["cca"].append([float(mean_cca(x, y).value) for x, y in zip(pre, post, strict=True)])
        found["cka"].append([float(linear_cka(x, y).value) for x, y in zip(pre, post, strict=True)])
        found["permuted_cca"].append([float(mean_cca(x, y[other]).value) for x, y in zip(pre, post, strict=True)])
        found["permuted_cka"].append([float(linear_cka(x, y[other]).value) for x, y in zip(pre, post, strict=True)])
    before = {name: p[0] for name, p in sides[0].items()}
    lengths = weight_distance({name: torch.zeros_like(p) for name, p in before.items()}, before, policy.layers)
    moved = weight_distance(before, sides[1], policy.layers)
    means = {name: dict(zip(policy.layers, _means(rows), strict=True)) for name, rows in found.items()}
    return Change(
        **means,
        distance={name: float(x.mean()) for name, x in moved.items()},
        length={name: float(x) for name, x in lengths.items()},
        tasks=tasks,
    )


@torch.no_grad()
def _said(policy: Policy, params: dict[str, Tensor], states: Tensor) -> list[Tensor]:
    """What each layer puts out, (x, width), for the states of one task, (1, x, o)."""
    outputs, inputs = run(policy, params, states)
    return [x[0].double() for x in (*inputs[1:], outputs)]


def _means(rows: list[list[float]]) -> list[float]:
    return torch.tensor(rows).nanmean(0).tolist()
