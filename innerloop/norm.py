"""Batch norm in few-shot learning, said aloud: whose statistics normalise a query image, and what is refused.

* "query": the statistics of the query set at hand, as the reference code of MAML does, in training and at test.
  A prediction then depends on the other query images.
* "support": the statistics of the support set, at every layer.
* "image": every query image by itself, over its own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from threading import local
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.kernels.batch_norm import halved, standardise
from innerloop.trees import Tree, each, joined, length, run


class _Scope(local):
    """For each thread by itself; torch.compile can read it, as it cannot a ContextVar."""

    first: int | None = None
    noted: dict[nn.Module, list[tuple[Tensor, Tensor]]] | None = None


_scope = _Scope()


@contextmanager
def statistics_from(first: int) -> Iterator[None]:
    """Inside, every `TaskNorm` takes its mean and variance from the first `first` items of its batch alone."""
    before, _scope.first = _scope.first, first
    try:
        yield
    finally:
        _scope.first = before


class TaskNorm(nn.Module):
    """Batch norm without memory: it normalises by the batch at hand, in training and at test, one task at a time.

    A scale is applied outside the fused kernel, so that second-order gradients under vmap are right.

    Raises:
        ValueError: a channel has a single value, which has no variance.
    """

    def __init__(self, channels: int, *, scale: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = float(eps)
        self.weight = nn.Parameter(torch.ones(channels)) if scale else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (n, c, ...)."""
        if self.weight is not None or _scope.first is not None:
            return self.affine(self.standardise(x))
        self._check(x)
        return standardise(x, self.eps, self.bias)

    def rectified(self, x: Tensor) -> Tensor:
        """Normalise x, (n, c, ...), then ReLU: in one pass where there is no scale."""
        if self.weight is not None or _scope.first is not None:
            return self(x).relu()
        self._check(x)
        return standardise(x, self.eps, self.bias, relu=True)

    def _check(self, x: Tensor) -> None:
        noted = _scope.noted
        if noted is not None:
            variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
            noted.setdefault(self, []).append((mean, variance))
        if (x if _scope.first is None else x[: _scope.first]).numel() <= x.shape[1]:
            raise ValueError(
                f"TaskNorm got one value a channel ({tuple(x.shape)}), which has no variance. Use more images a task, "
                'larger images, or statistics="support".'
            )

    def standardise(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance for every channel of x, (n, c, ...)."""
        self._check(x)
        first = _scope.first
        if first is None:
            return standardise(x, self.eps)
        over = [0, *range(2, x.ndim)]
        mean = x[:first].mean(over, keepdim=True)
        variance = (x[:first] - mean).square().mean(over, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps)

    def halved(self, x: Tensor) -> Tensor:
        """Standardise x, (n, c, h, w), then 2x2 max pooling."""
        self._check(x)
        if _scope.first is not None:
            return F.max_pool2d(self.standardise(x), 2)
        return halved(x, self.eps)

    def affine(self, x: Tensor) -> Tensor:
        """Scale and shift the channels of x, (n, c, ...)."""
        shape = (-1,) + (1,) * (x.ndim - 2)
        if self.weight is not None:
            x = x * self.weight.view(shape)
        return x + self.bias.view(shape)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{len(self.bias)}, scale={self.weight is not None}, eps={self.eps}"


class FixedNorm(nn.Module):
    """A `TaskNorm` that keeps the statistics of one batch: each image's answer depends on it alone."""

    def __init__(self, norm: TaskNorm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (n, c, ...)."""
        mean, scale, shift = self.get_buffer("mean"), torch.rsqrt(self.get_buffer("variance") + self.eps), self.bias
        scale = scale if self.weight is None else scale * self.weight
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - mean.view(shape)) * scale.view(shape) + shift.view(shape)


def settled(model: nn.Module, support_x: Tree) -> nn.Module:
    """A copy whose `TaskNorm`s keep the statistics of the support set, (s, *x): images may come one at a time.

    Raises:
        ValueError: a norm ran more than once, so that it has two statistics.
    """
    copy = deepcopy(model)
    noted = _scope.noted = {}
    try:
        with torch.no_grad():
            run(copy, each(torch.clone, support_x))
    finally:
        _scope.noted = None
    for name, module in list(copy.named_modules()):
        if isinstance(module, TaskNorm) and module in noted:
            if len(noted[module]) > 1:
                raise ValueError(f"{name} ran {len(noted[module])} times in a pass and has no one mean to keep")
            copy = _replaced(copy, name, FixedNorm(module, *noted[module][0]))
    return copy


def task_norms(model: nn.Module) -> nn.Module:
    """A copy with every batch norm of torch's made a `TaskNorm` of the same weights, which keeps no statistics.

    >>> task_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))[1]
    TaskNorm(8, scale=True, eps=1e-05)
    """
    copy = deepcopy(model)
    for name, module in list(copy.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            like = next((x for x in (*module.parameters(), *module.buffers(), *model.parameters())), torch.zeros(()))
            norm = TaskNorm(module.num_features, scale=module.affine, eps=module.eps).to(like.device, like.dtype)
            if module.affine:
                norm.weight, norm.bias = module.weight, module.bias
            else:
                norm.bias.requires_grad_(False)
            copy = _replaced(copy, name, norm.train(module.training))
    return copy


def _replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    above, _, own = name.rpartition(".")
    setattr(model.get_submodule(above), own, module)
    return model


def query_outputs(network: Callable[[Tree], Tree], support: Tree, query: Tree, statistics: Statistics) -> Tree:
    """`network` on the query set (q, *x) of one task, normalised as `statistics` says; the support set is (s, *x)."""
    if statistics == "query":
        return network(query)
    if statistics == "support":
        count = length(support)
        with statistics_from(count):
            return each(lambda y: y[count:], network(joined(torch.cat, [support, query])))
    images = [each(lambda x, i=i: x[i : i + 1], query) for i in range(length(query))]
    return joined(torch.cat, [network(image) for image in images])


def describe_statistics(model: nn.Module, statistics: Statistics) -> str:
    """Whose statistics this model normalises a query image by, in words for a report."""
    kinds = [module for module in model.modules() if isinstance(module, TaskNorm | nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    if not kinds:
        return "none over the batch"
    running = [getattr(module, "track_running_stats", False) for module in kinds]
    return "running" if all(running) else f"{statistics} and running" if any(running) else statistics


def check_statistics(statistics: str) -> None:
    """Refuse an unknown word."""
    if statistics not in get_args(Statistics):
        raise ValueError(f"statistics must be one of {', '.join(get_args(Statistics))}, got {statistics!r}")


def check_norms(model: nn.Module, statistics: Statistics) -> None:
    """Refuse norms that would give wrong numbers over tasks.

    Raises:
        ValueError: a norm keeps running statistics in train mode, or a plain batch norm is asked for the support set's.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._NormBase):  # pyright: ignore[reportPrivateUsage]
            continue
        kind = f"{name or 'the model'} is a {type(module).__name__}"
        if module.track_running_stats and module.training:
            raise ValueError(f"{kind} that {GATHERS}")
        batch = isinstance(module, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]
        if statistics == "support" and batch and not module.track_running_stats:
            raise ValueError(f"{kind}, which {NO_SUPPORT}")


GATHERS = (
    "gathers running statistics over tasks, which mixes them. Use innerloop.TaskNorm (task_norms(model) makes them), "
    "pass track_running_stats=False, or call model.eval() to freeze the statistics it has."
)
NO_SUPPORT = 'cannot use the support set\'s statistics: use innerloop.TaskNorm or statistics="image".'
