"""The outer loop's derivatives, through the adaptation: J' g, and J' F J.

Adaptation maps the parameters of all tasks to those of each task; J is its derivative there,
I - lr H for each inner step, with H the Hessian of the inner loss and zero rows for what does not adapt. The gradient
of an objective of the adapted parameters is J' times its gradient there. The KL divergence from the adapted policy is
flat where that policy stands, so that its Hessian is exactly J' F J, F being its Hessian in the adapted parameters:
this is the product that Perlmutter's double backward gives, for about a fifth of the time.

Shapes: t tasks; parameters of all tasks (...), of each (t, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from innerloop.inner import InnerLoop
from innerloop.params import Params, chosen
from innerloop.rl.advantages import Samples
from innerloop.rl.derivatives import Bend, Curve, Point
from innerloop.rl.objective import divergence, reinforce
from innerloop.rl.policy import Outputs, Policy


@dataclass(frozen=True)
class Adaptation:
    """How the adapted parameters of some tasks follow the parameters that they began with."""

    policy: Policy
    inner: InnerLoop
    path: Sequence[Params]  # parameters of each task after 0, 1, ... steps
    batches: Sequence[Samples]  # what each step learnt from

    @cached_property
    def _adapting(self) -> list[str]:
        return chosen(self.policy, self.inner.adapt)

    @cached_property
    def _curves(self) -> list[Curve]:
        def loss(batch: Samples) -> Callable[[Outputs], Tensor]:
            return lambda outputs: reinforce(outputs, batch)

        return [
            Curve(Point(self.policy, params, batch.observations), loss(batch))
            for params, batch in zip(self.path, self.batches, strict=False)
        ]

    def push(self, along: Params) -> dict[str, Tensor]:
        """J times `along`, parameters of all tasks: the change of each task's adapted parameters."""
        count = len(self.batches[0].weights)
        moves = {name: x.expand(count, *x.shape) for name, x in along.items()}
        for curve in () if self.inner.first_order else self._curves:
            moves |= self._less(moves, curve.times(moves, self._adapting))
        return moves

    def pull(self, back: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """J' times `back`, a gradient in each task's adapted parameters: the sum over the tasks."""
        back = dict(back)
        for curve in () if self.inner.first_order else reversed(self._curves):
            back = self._less(back, curve.times({name: back[name] for name in self._adapting}))
        return {name: x.sum(0) for name, x in back.items()}

    def _less(self, moves: Mapping[str, Tensor], product: Mapping[str, Tensor]) -> dict[str, Tensor]:
        size = self.inner.lr
        assert isinstance(size, int | float)  # all that meta-RL takes
        return {name: moves[name] - size * x for name, x in product.items()}


@dataclass(frozen=True)
class Fisher:
    """J' F J of some tasks: the Hessian of the KL divergence from their adapted policies, summed over them."""

    adaptation: Adaptation
    batch: Samples  # whose states the divergence is averaged over
    over: Literal["mean", "sum"]

    @cached_property
    def _point(self) -> Point:
        return Point(self.adaptation.policy, self.adaptation.path[-1], self.batch.observations)

    @cached_property
    def _bend(self) -> Bend:
        old = self._point.outputs
        return Bend(old, lambda new: divergence(new, old, self.batch, self.over))

    def times(self, along: Params) -> dict[str, Tensor]:
        """The product with `along`, parameters of all tasks."""
        move, _ = self._point.push(self.adaptation.push(along))
        return self.adaptation.pull(self._point.pull(self._bend.times(move))[0])


def flat(params: Params) -> Tensor:
    """All numbers in one row."""
    return torch.cat([x.reshape(-1) for x in params.values()])


def like(row: Tensor, params: Params) -> dict[str, Tensor]:
    """The inverse of `flat`: in the shapes of `params`."""
    parts = row.split([x.numel() for x in params.values()])
    return {name: part.view(x.shape) for part, (name, x) in zip(parts, params.items(), strict=True)}
