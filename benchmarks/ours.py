"""Our side: innerloop through its public API, as its own training and testing use it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

import torch
from torch import Tensor, nn

import innerloop
from benchmarks.cases import Case, Data
from benchmarks.peers import Adapt, Train
from innerloop.models import mini_imagenet_net, omniglot_net


def network(case: Case, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """The paper's network for this case."""
    torch.manual_seed(0)
    make = omniglot_net if case.stride == 2 else mini_imagenet_net
    return make(case.way, width=case.filters, size=case.size).to(case.device, dtype)


def rule(case: Case, algorithm: str, steps: int) -> innerloop.InnerLoop:
    return getattr(innerloop, algorithm)(steps, case.lr)


def episodes(data: Data) -> innerloop.Episodes:
    """The meta batch as `innerloop.sample` gives it."""
    return innerloop.Episodes(*data)


def train(
    case: Case, algorithm: str, dtype: torch.dtype = torch.float32, *, chunk_size: Callable[[Case], int | None]
) -> Train:
    model, batches = network(case, dtype), repeat(episodes(case.data(dtype)))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    learn = rule(case, algorithm, case.steps)
    steps = innerloop.meta_train(model, batches, learn, adam, chunk_size=chunk_size(case))
    return lambda: float(next(steps).loss)


def adapt(case: Case, algorithm: str, dtype: torch.dtype = torch.float32) -> Adapt:
    model, learn = network(case, dtype), rule(case, algorithm, case.adapt_steps)
    first = innerloop.Episodes(*(part[:1] for part in episodes(case.data(dtype))))
    bound = innerloop.bind(model, learn)

    def predict() -> Tensor:
        with torch.no_grad():
            return bound(first)[-1, 0]

    return predict
