"""A table of small networks, each with its hand-written forward pass, and of rules, each with what it adapts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import oracle
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.algorithms import anil, boil, fomaml, freeze, maml
from innerloop.choices import Statistics
from innerloop.inner import InnerLoop
from innerloop.models import ConvBlock, conv4, mini_imagenet_net, mlp, omniglot_net
from innerloop.norm import TaskNorm
from innerloop.tasks import Episodes

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TASKS = 3  # chunk_size=2 then leaves an uneven chunk


class Plain(nn.Module):
    """A Sequential's children in a module that innerloop cannot cut."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


class Skip(nn.Module):
    """Not a chain: a skip connection, and a layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.norm = TaskNorm(5)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.head(self.norm(x + torch.tanh(self.twice(torch.tanh(self.twice(x))))))


def skip_forward(params, x, norm):
    x = torch.tanh(oracle.linear(params, "first", x))
    x = x + torch.tanh(oracle.linear(params, "twice", torch.tanh(oracle.linear(params, "twice", x))))
    return oracle.linear(params, "head", norm(x, 1e-5) * params["norm.weight"] + params["norm.bias"])


def two_blocks() -> nn.Sequential:
    norm = partial(TaskNorm, eps=1e-4)
    blocks = {"block1": ConvBlock(2, 4, norm, "max"), "block2": ConvBlock(4, 5, norm, "max")}
    return nn.Sequential(OrderedDict(**blocks, features=nn.Flatten(), head=nn.Linear(20, 4)))


@dataclass(frozen=True)
class Case:
    model: Callable[[], nn.Module]
    forward: Callable
    shape: tuple[int, ...]  # of one input
    body: str  # a layer of the body, to freeze
    values: int = 0  # regression: numbers a target; 0: labels
    way: int = 4
    statistics: tuple[Statistics, ...] = ("query", "support", "image")

    @property
    def loss(self):
        return F.mse_loss if self.values else F.cross_entropy

    @property
    def slow_loss(self):
        return oracle.mse if self.values else oracle.cross_entropy

    def build(self) -> nn.Module:
        """In float64, with parameters that are neither 0 nor 1."""
        model = self.model().double()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                scale = name.endswith("norm.weight")
                parameter.copy_(1 + 0.2 * noise if scale else 0.4 * noise if parameter.ndim > 1 else 0.2 * noise)
        return model.to(DEVICE)

    def episodes(self, tasks: int = TASKS, shot: int = 2, query: int = 5, seed: int = 0) -> Episodes:
        generator = torch.Generator().manual_seed(seed)

        def part(count: int) -> list[torch.Tensor]:
            x = torch.randn(tasks, count, *self.shape, generator=generator, dtype=torch.float64)
            if self.values:
                return [x, torch.randn(tasks, count, self.values, generator=generator, dtype=torch.float64)]
            order = torch.rand(tasks, count, generator=generator).argsort(1)
            return [x, order % self.way]

        return Episodes(*(tensor.to(DEVICE) for tensor in [*part(shot * self.way), *part(query)]))


def _nets() -> dict[str, Case]:
    max4 = oracle.conv_net(blocks=4, pooling="max", eps=1e-3, spatial_mean=False)
    stride4 = oracle.conv_net(blocks=4, pooling="stride", eps=1e-3, spatial_mean=True)
    scaled = oracle.conv_net(blocks=4, pooling="stride", eps=1e-5, spatial_mean=False)
    large = oracle.conv_net(blocks=4, pooling="max", eps=1e-3, spatial_mean=False, halvings=2)
    two = oracle.conv_net(blocks=2, pooling="max", eps=1e-4, spatial_mean=False)
    batch: tuple[Statistics, ...] = ("query", "support")  # their last block has one pixel an image
    return {
        "mini_imagenet_net": Case(partial(mini_imagenet_net, 4, width=4, size=16), max4, (3, 16, 16), "block1"),
        "omniglot_net": Case(
            partial(omniglot_net, 4, width=6, size=10), stride4, (1, 10, 10), "block2", statistics=batch
        ),
        "conv4": Case(
            partial(conv4, 4, width=4, size=9, pooling="stride"), scaled, (3, 9, 9), "block1", statistics=batch
        ),
        "two of four blocks halve": Case(
            partial(mini_imagenet_net, 4, width=4, size=8, halvings=2), large, (3, 8, 8), "block3"
        ),
        "two blocks": Case(two_blocks, two, (2, 8, 8), "block1"),
        "two blocks, not a Sequential": Case(lambda: Plain(two_blocks()), two, (2, 8, 8), "block1"),
        "skip": Case(Skip, skip_forward, (3,), "first", statistics=batch),
        "mlp regression": Case(partial(mlp, 2, 3, (6, 5)), oracle.mlp, (2,), "layer1", values=3, statistics=("query",)),
    }


CASES = _nets()


@dataclass(frozen=True)
class Rule:
    rule: Callable[[Case], InnerLoop]
    adapts: Callable[[Case, str], bool]  # said again, without patterns

    def make(self, case: Case, statistics: Statistics = "query") -> InnerLoop:
        return replace(self.rule(case), loss=case.loss, statistics=statistics)


RULES = {
    "maml": Rule(lambda _: maml(2, 0.3), lambda *_: True),
    "fomaml": Rule(lambda _: fomaml(2, 0.3), lambda *_: True),
    "anil": Rule(lambda _: anil(3, 0.3), lambda _, name: name.startswith("head.")),
    "boil": Rule(lambda _: boil(2, 0.3), lambda _, name: not name.startswith("head.")),
    "freeze": Rule(
        lambda case: freeze(maml(2, 0.3), case.body), lambda case, name: not name.startswith(f"{case.body}.")
    ),
    "weights only": Rule(lambda _: InnerLoop(("*", "!*bias"), 1, 0.3), lambda _, name: not name.endswith("bias")),
}


@cache
def expected(case_name: str, rule_name: str, statistics: Statistics = "query"):
    """What the oracle says on the CPU: outputs (n + 1, t, q, w), loss (), {name: gradient}."""
    case, rule = CASES[case_name], RULES[rule_name]
    params = {name: p.detach().cpu() for name, p in case.build().named_parameters()}
    inner = rule.make(case)
    adapting = [name for name in params if rule.adapts(case, name)]
    episodes = [part.cpu() for part in case.episodes()]
    settings = (inner.steps, inner.lr, inner.first_order, case.slow_loss)
    return oracle.meta(case.forward, params, adapting, *settings, episodes, statistics)


def close(value, want, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(value.detach().cpu(), want.detach().cpu(), rtol=tolerance, atol=tolerance)
