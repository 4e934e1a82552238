"""Batch norm in few-shot learning, said aloud: whose statistics normalise a query image, and what is refused.

* "query": the statistics of the query set at hand, as the reference code of MAML does, in training and at test.
  A prediction then depends on the other query images.
* "support": the statistics of the support set, at every layer.
* "image": every query image by itself, over its own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from threading import local
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.kernels.batch_norm import halved, standardise

Statistics = Literal["query", "support", "image"]

# Their fused kernels give wrong second-order gradients under vmap once their own weight adapts (pytorch/functorch#534).
_FUSED = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)  # pyright: ignore[reportPrivateUsage]
_FUSED_CALLS = {"batch_norm", "layer_norm", "instance_norm"}  # of torch or of torch.nn.functional


class _Scope(local):
    """For each thread by itself; torch.compile can read it, as it cannot a ContextVar."""

    first: int | None = None


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
        if x[: _scope.first].numel() <= x.shape[1]:
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


def query_outputs(
    network: Callable[[Tensor], Tensor], support: Tensor, query: Tensor, statistics: Statistics
) -> Tensor:
    """`network` on the query set (q, *x) of one task, normalised as `statistics` says; the support set is (s, *x)."""
    if statistics == "query":
        return network(query)
    if statistics == "support":
        with statistics_from(len(support)):
            return network(torch.cat([support, query]))[len(support) :]
    return torch.cat([network(image) for image in query.split(1)])


def describe_statistics(model: nn.Module, statistics: Statistics) -> str:
    """Whose statistics this model normalises a query image by, in words for a report."""
    kinds = [module for module in model.modules() if isinstance(module, TaskNorm | nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    if not kinds:
        return "none over the batch"
    running = [getattr(module, "track_running_stats", False) for module in kinds]
    return "running" if all(running) else f"{statistics} and running" if any(running) else statistics


def check_norms(
    model: nn.Module, adapting: Collection[str], statistics: Statistics, *, vmapped: bool, first_order: bool
) -> None:
    """Refuse norms that would give wrong numbers in an inner loop.

    Raises:
        ValueError: a norm keeps running statistics in train mode, or a fused norm's weight adapts under vmap with
            second-order gradients, or `statistics` is unknown or asks a plain batch norm for the support set's.
    """
    if statistics not in get_args(Statistics):
        raise ValueError(f"statistics must be one of {', '.join(get_args(Statistics))}, got {statistics!r}")
    for name, module in model.named_modules():
        fused = isinstance(module, _FUSED)
        called = [] if fused else sorted(_FUSED_CALLS.intersection(_names_in(module.forward)))
        if not fused and not called:
            continue
        kind = f"{name or 'the model'} is a {type(module).__name__}" + "".join(
            f" that calls {each}," for each in called
        )
        if getattr(module, "track_running_stats", False) and module.training:
            raise ValueError(
                f"{kind} that gathers running statistics over tasks, which mixes them. Use innerloop.TaskNorm, pass "
                "track_running_stats=False, or call model.eval() to freeze the statistics it has."
            )
        plain = isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats  # pyright: ignore[reportPrivateUsage]
        if statistics == "support" and plain:
            raise ValueError(
                f'{kind}, which cannot use the support set\'s statistics: use innerloop.TaskNorm or statistics="image".'
            )
        own = [part for part, _ in module.named_parameters(recurse=False)]
        adapts = [part for part in own if (f"{name}.{part}" if name else part) in adapting]
        if adapts and vmapped and not first_order:
            raise ValueError(
                f"{kind} whose {' and '.join(adapts)} adapts: batched over tasks, its second-order gradients are "
                "wrong (pytorch/functorch#534). Use innerloop.TaskNorm, leave it out of `adapt`, or pass chunk_size=1."
            )


def _names_in(forward: Callable[..., object]) -> tuple[str, ...]:
    """What a method written in Python calls or looks up."""
    code = getattr(forward, "__code__", None)
    return () if code is None else code.co_names
