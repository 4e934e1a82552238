"""One list of odd modules, each as a user may write it: (n, 6) to (n, 3), float64, with a head called "head"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    """A body of two layers and a head; `middle` is what a kind of net does in between."""

    def __init__(self, middle: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.head, self.middle = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), middle
        self.gain, self.shift = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.rand(8))
        self.seen: list[torch.Tensor] = []

    def body(self, x):
        return torch.tanh(self.b(torch.tanh(self.a(x))))

    def forward(self, x):
        return self.head(self.middle(self, x))


def keeps(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.last = net.body(x)
    net.seen.append(net.last)
    return net.last


class Reverse(torch.autograd.Function):
    """The old style, which torch.func cannot transform."""

    @staticmethod
    def forward(ctx, x):  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):  # noqa: ARG004
        return -0.3 * g


def packed(net: Net, x: torch.Tensor) -> torch.Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        return net.body(x)


def hooked(net: Net, x: torch.Tensor) -> torch.Tensor:
    """A hook on a tensor, whose code reads a parameter when gradients are asked for."""
    y = net.body(x) * 1.0  # which is not saved for the product's own derivative
    if y.requires_grad:
        y.register_hook(lambda g: g * net.gain.mean())
    return y


class Scale(torch.autograd.Function):
    """What `hooked` does, without a hook."""

    @staticmethod
    def forward(ctx, y, scale):
        ctx.save_for_backward(scale)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


def written(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.body(x.mul_(0.5).add_(0.1))


def by_data(net: Net, x: torch.Tensor) -> torch.Tensor:
    """Writes into its input where no counter sees it."""
    if x.requires_grad:
        return net.body(x.clamp_min(0))
    x.data.clamp_(min=0)
    return net.body(x)


def asks(net: Net, x: torch.Tensor) -> torch.Tensor:
    """Asks for a value, which vmap cannot."""
    return net.body(x) * (2 if float(x.detach().sum()) > 1e9 else 1)


def frozen() -> nn.Module:
    net = Net(Net.body)
    net.a.requires_grad_(False)
    return net


def in_place_head() -> nn.Module:
    head = nn.Sequential(nn.LeakyReLU(inplace=True), nn.Linear(8, 3))
    return nn.Sequential(OrderedDict(body=nn.Linear(6, 8), head=head))


def tied() -> nn.Module:
    net = Net(lambda net, x: torch.tanh(net.a(x)) @ net.b.weight)
    net.head = nn.Linear(8, 3)
    net.b = nn.Linear(8, 8)
    net.c = nn.Linear(8, 8)
    net.c.weight = net.b.weight
    net.middle = lambda net, x: torch.tanh(net.c(torch.tanh(net.b(torch.tanh(net.a(x))))))
    return net


def normed() -> nn.Module:
    return Net(lambda net, x: F.layer_norm(net.body(x), (8,), net.gain, net.shift))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "chain": lambda: nn.Sequential(OrderedDict(body=nn.Linear(6, 8), act=nn.Tanh(), head=nn.Linear(8, 3))),
    "in-place activation": lambda: nn.Sequential(
        OrderedDict(body=nn.Linear(6, 8), act=nn.ReLU(inplace=True), head=nn.Linear(8, 3))
    ),
    "in-place head": in_place_head,
    "in-place first layer": lambda: nn.Sequential(
        OrderedDict(act=nn.LeakyReLU(inplace=True), body=nn.Linear(6, 8), head=nn.Linear(8, 3))
    ),
    "plain": lambda: Net(Net.body),
    "checkpointed": lambda: Net(lambda net, x: checkpoint(net.body, x, use_reentrant=False)),
    "twice checkpointed": lambda: Net(
        lambda net, x: checkpoint(lambda x: checkpoint(net.body, x, use_reentrant=False), x, use_reentrant=False)
    ),
    "saved-tensor hooks": lambda: Net(packed),
    "tensor hook": lambda: Net(hooked),
    "keeps what it saw": lambda: Net(keeps),
    "old autograd function": lambda: Net(lambda net, x: Reverse.apply(net.body(x))),
    "asks for values": lambda: Net(asks),
    "writes into its input": lambda: Net(written),
    "writes unseen": lambda: Net(by_data),
    "frozen layer": frozen,
    "tied": tied,
    "norm in a lambda": normed,
    "LayerNorm": lambda: nn.Sequential(
        OrderedDict(body=nn.Linear(6, 8), norm=nn.LayerNorm(8), act=nn.Tanh(), head=nn.Linear(8, 3))
    ),
    "parametrised": lambda: nn.Sequential(
        OrderedDict(body=parametrizations.weight_norm(nn.Linear(6, 8)), act=nn.Tanh(), head=nn.Linear(8, 3))
    ),
    "parametrised head": lambda: nn.Sequential(
        OrderedDict(body=nn.Linear(6, 8), act=nn.Tanh(), head=parametrizations.weight_norm(nn.Linear(8, 3)))
    ),
    "scaled after the head": lambda: Scaled(),
    "head called twice": lambda: Twice(),
}  # fmt: skip


# Where the textbook's `functional_call` would be wrong itself: the same function, written so that it is right.
PLAINLY = {
    "checkpointed": lambda: Net(Net.body),
    "twice checkpointed": lambda: Net(Net.body),
    "tensor hook": lambda: Net(lambda net, x: Scale.apply(net.body(x), net.gain.mean())),
}


class Scaled(nn.Module):
    """The head is not the end."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x))).mul_(0.7)


class Twice(nn.Module):
    """The head runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.head(h) + self.head(h.flip(0))


def build(kind: str, *, plainly: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return (PLAINLY.get(kind, MODULES[kind]) if plainly else MODULES[kind])().double()


def episodes(tasks: int = 3, support: int = 6, query: int = 5, seed: int = 1):
    from innerloop.tasks import Episodes

    generator = torch.Generator().manual_seed(seed)
    x = partial(torch.randn, generator=generator, dtype=torch.float64)
    y = partial(torch.randint, 3, generator=generator)
    return Episodes(x(tasks, support, 6), y((tasks, support)), x(tasks, query, 6), y((tasks, query)))
