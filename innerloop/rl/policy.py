"""Policies: a multi-layer perceptron, and the distribution over actions that its outputs stand for.

Shapes: t tasks, n states a task, o numbers an observation, a numbers an action. Parameters are those of all tasks,
(...), or one set a task, (t, ...).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.params import Params
from innerloop.rl.environment import Actions
from innerloop.rl.options import Activation

MIN_STD = 1e-6


class Outputs(NamedTuple):
    """What a policy says in every state: the parameters of a distribution over actions."""

    values: Tensor  # (t, n, a): means, or logits where actions are choices
    log_std: Tensor | None  # (t, a), the same in every state, or None where actions are choices


class Policy(nn.Module):
    """An MLP with layers called layer1, layer2, ..., head; continuous actions add `log_std`, one number an action.

    `InnerLoop(adapt=("head.*",))` leaves `log_std` alone; `("head.*", "log_std")` adapts it with the head.

    Args:
        observations: numbers in an observation.
        actions: what the policy may do.
        hidden: width of each hidden layer; the paper has two of 100.
        activation: between the layers.
        std: of the actions before training.
    """

    def __init__(
        self,
        observations: int,
        actions: Actions,
        hidden: tuple[int, ...] = (100, 100),
        activation: Activation = "relu",
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.discrete = actions.discrete
        sizes = (observations, *hidden)
        for i, (into, out) in enumerate(zip(sizes, hidden, strict=False), start=1):
            self.add_module(f"layer{i}", nn.Linear(into, out))
        self.head = nn.Linear(sizes[-1], actions.size)
        self.layers = [*(f"layer{i}" for i in range(1, len(sizes))), "head"]
        if not actions.discrete:
            self.log_std = nn.Parameter(torch.full((actions.size,), math.log(std)))
        for name, parameter in self.named_parameters():
            if name.endswith(".weight"):
                nn.init.xavier_uniform_(parameter)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def forward(self, observations: Tensor) -> Tensor:
        """Means or logits, (..., a), of (..., o)."""
        x = observations
        for name in self.layers[:-1]:
            x = activate(self.activation, self.get_submodule(name)(x))
        return self.head(x)

    def outputs(self, params: Params, observations: Tensor) -> Outputs:
        """What a policy with these parameters says about (t, n, o)."""
        return Outputs(run(self, params, observations)[0], params.get("log_std"))


def activate(activation: Activation, x: Tensor) -> Tensor:
    """Between two layers."""
    return x.relu() if activation == "relu" else x.tanh()


def run(policy: Policy, params: Params, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The outputs, (t, n, a), and what each layer got as its input."""
    inputs: list[Tensor] = []
    for name in policy.layers:
        inputs.append(x)
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        x = F.linear(x, weight, bias) if weight.ndim == 2 else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        if name != "head":
            x = activate(policy.activation, x)
    return x, inputs


def draw(outputs: Outputs, generator: torch.Generator) -> Tensor:
    """One action a state, (t, n, a) numbers or (t, n) choices."""
    values = outputs.values
    if outputs.log_std is None:
        chances = values.flatten(0, 1).softmax(-1).cpu()  # where the generator is
        return torch.multinomial(chances, 1, generator=generator).view(values.shape[:2]).to(values.device)
    noise = torch.randn(values.shape, generator=generator, dtype=values.dtype).to(values.device)
    return values + _log_std(outputs).exp() * noise


def log_prob(outputs: Outputs, actions: Tensor) -> Tensor:
    """Of each action, (t, n); summed over the numbers of an action."""
    if outputs.log_std is None:
        return outputs.values.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    log_std = _log_std(outputs)
    away = (actions - outputs.values) * (-log_std).exp()
    return -(0.5 * away * away + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def kl(new: Outputs, old: Outputs, over: Literal["mean", "sum"]) -> Tensor:
    """KL(new, old) in each state, (t, n); over the numbers of an action it is summed, or averaged as in 493e677."""
    if new.log_std is None or old.log_std is None:
        log_new, log_old = new.values.log_softmax(-1), old.values.log_softmax(-1)
        return (log_new.exp() * (log_new - log_old)).sum(-1)
    log_ratio = _log_std(new) - _log_std(old)
    away = (new.values - old.values) * (-_log_std(old)).exp()
    each = 0.5 * ((2 * log_ratio).exp() + away * away - 1) - log_ratio
    return each.mean(-1) if over == "mean" else each.sum(-1)


def _log_std(outputs: Outputs) -> Tensor:
    """(t, 1, a)"""
    assert outputs.log_std is not None
    return outputs.log_std.clamp_min(math.log(MIN_STD)).unsqueeze(-2)
