"""Derivatives of a policy, written out: first ones, and products with second ones (Pearlmutter 1994).

Autograd gives the same numbers. It builds a graph of a graph for them and passes over it in every product; here what
does not change between products is kept, so that a product with a Hessian is six matrix products a layer, and one
with a Jacobian two. The distribution over actions, whose numbers are few, is left to autograd.

Shapes: t tasks, x states a task; every parameter and tangent has the axis t in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from innerloop.params import Params
from innerloop.rl.options import Activation
from innerloop.rl.policy import Outputs, Policy, run

Loss = Callable[[Outputs], Tensor]
"""From what a policy says to a number, ()."""


@dataclass(frozen=True)
class Point:
    """A policy at its parameters in some states: what all derivatives there share."""

    policy: Policy
    params: Params
    observations: Tensor  # (t, x, o)

    @cached_property
    def _passed(self) -> tuple[Tensor, list[Tensor]]:
        return run(self.policy, self.params, self.observations)

    @property
    def outputs(self) -> Outputs:
        log_std = self.params.get("log_std")
        return Outputs(self._passed[0], None if log_std is None else log_std.contiguous())

    @property
    def inputs(self) -> list[Tensor]:
        """What each layer got, the observations first."""
        return self._passed[1]

    def push(self, along: Params) -> tuple[Outputs, list[Tensor | None]]:
        """How outputs, and what each layer gets, change along `along`; a parameter that is missing there rests."""
        moves: list[Tensor | None] = []
        move: Tensor | None = None
        for name, x, after in zip(self.policy.layers, self.inputs, [*self.inputs[1:], None], strict=True):
            moves.append(move)
            weight, bias = along.get(f"{name}.weight"), along.get(f"{name}.bias")
            move = None if move is None else move @ self.params[f"{name}.weight"].mT
            if weight is not None:
                move = x @ weight.mT if move is None else torch.baddbmm(move, x, weight.mT)
            if bias is not None:
                move = bias.unsqueeze(1).expand(*x.shape[:2], -1) if move is None else move + bias.unsqueeze(1)
            if move is not None and after is not None:
                move = _slope(self.policy.activation, move, after)
        outputs, spread = self.outputs, along.get("log_std")
        if outputs.log_std is not None:
            spread = torch.zeros_like(outputs.log_std) if spread is None else spread.contiguous()
        values = torch.zeros_like(outputs.values) if move is None else move.contiguous()
        return Outputs(values, spread), moves

    def pull(self, cotangent: Outputs) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The gradient, given that with respect to the outputs; and that with respect to each layer's own output."""
        grads: dict[str, Tensor] = {} if cotangent.log_std is None else {"log_std": cotangent.log_std}
        back, backs = cotangent.values, [cotangent.values]
        for i in reversed(range(len(self.inputs))):
            name = self.policy.layers[i]
            grads[f"{name}.weight"], grads[f"{name}.bias"] = back.mT @ self.inputs[i], back.sum(1)
            if i:
                back = _slope(self.policy.activation, back @ self.params[f"{name}.weight"], self.inputs[i])
                backs.append(back)
        return grads, backs[::-1]


@dataclass(frozen=True)
class Bend:
    """A loss of a policy's outputs: its gradient there, and products with its Hessian."""

    outputs: Outputs
    loss: Loss

    @cached_property
    def _graph(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        with torch.enable_grad():
            at = [x.detach().requires_grad_() for x in self.outputs if x is not None]
            return at, torch.autograd.grad(self.loss(_outputs(at)), at, create_graph=True, materialize_grads=True)

    @property
    def gradient(self) -> Outputs:
        return _outputs([x.detach() for x in self._graph[1]])

    def times(self, move: Outputs) -> Outputs:
        """The Hessian, which is its own transpose, times `move`."""
        at, grads = self._graph
        along = [x for x in move if x is not None]
        return _outputs(torch.autograd.grad(grads, at, along, retain_graph=True, materialize_grads=True))


def _outputs(parts: Sequence[Tensor]) -> Outputs:
    return Outputs(parts[0], parts[1] if len(parts) > 1 else None)


@dataclass(frozen=True)
class Curve:
    """A loss at a point: its gradient, and products with its Hessian."""

    point: Point
    loss: Loss

    @cached_property
    def _bend(self) -> Bend:
        return Bend(self.point.outputs, self.loss)

    @cached_property
    def _first(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        return self.point.pull(self._bend.gradient)

    @property
    def gradient(self) -> dict[str, Tensor]:
        return self._first[0]

    def times(self, along: Params, wanted: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The Hessian times `along`: all of it, or the rows of the parameters `wanted`.

        A parameter that is missing in `along` counts as zero there. A network without its body's rows, or with zeros
        for its body, costs half.
        """
        point, (_, backs) = self.point, self._first
        move, moves = point.push(along)
        turn = self._bend.times(move)
        rows: dict[str, Tensor] = {} if turn.log_std is None else {"log_std": turn.log_std}
        back, names = turn.values, point.policy.layers
        lowest = (
            0
            if wanted is None
            else min((names.index(w.split(".")[0]) for w in wanted if w != "log_std"), default=len(names))
        )
        for i in reversed(range(lowest, len(names))):
            name, x, dx = names[i], point.inputs[i], moves[i]
            row = back.mT @ x
            rows[f"{name}.weight"] = row if dx is None else torch.baddbmm(row, backs[i].mT, dx)
            rows[f"{name}.bias"] = back.sum(1)
            if i > lowest:
                back = self._below(i, back, along.get(f"{name}.weight"), dx)
        return rows if wanted is None else {name: rows[name] for name in wanted}

    def _below(self, i: int, back: Tensor, turn: Tensor | None, move: Tensor | None) -> Tensor:
        """The change of what `pull` gives for layer i - 1, from that for layer i."""
        policy, backs = self.point.policy, self._first[1]
        weight, x = self.point.params[f"{policy.layers[i]}.weight"], self.point.inputs[i]
        change = back @ weight
        if turn is not None:
            change = torch.baddbmm(change, backs[i], turn)
        change = _slope(policy.activation, change, x)
        if policy.activation == "tanh" and move is not None:  # its slope 1 - x^2 changes, too
            change = change - 2 * x * move * (backs[i] @ weight)
        return change


def _slope(activation: Activation, x: Tensor, after: Tensor) -> Tensor:
    """x times the slope of the activation, which is known from what comes after it."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(x, after, 0)
    return torch.ops.aten.tanh_backward(x, after)
