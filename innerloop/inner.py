"""The inner loop, whole: choose the parameters that adapt, descend on the support set, predict the query set.

MAML adapts every parameter, ANIL the head alone, BOIL all but the head, and "freeze layers 1..k at test time" is one
more choice: they differ in `InnerLoop.adapt` and in nothing else.

Shapes: t tasks, s support items and q query items a task, w ways, *x one input, k steps that are returned.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.bound import Bound, bound_to
from innerloop.choices import HeadStart, Statistics
from innerloop.descent import Optimizer, StepSizes, check_step_sizes
from innerloop.norm import check_statistics, settled
from innerloop.params import lock_of
from innerloop.tasks import Episodes
from innerloop.trees import Tree, as_tree

Loss = Callable[[Any, Any], Tensor]
"""From the outputs of one task's set, (n, w), and its targets, (n,) labels or (n, ...) values, to their mean loss."""


@dataclass(frozen=True)
class InnerLoop:
    """How one task is learnt: gradient descent on its support set. Called, it predicts (see `predict`).

    Args:
        adapt: shell patterns over parameter names, left to right; "!" takes names away again.
        steps: of gradient descent.
        lr: the step size: a number, one a step, a mapping from patterns as in `adapt`, or tensors that the outer loop
            learns, see `innerloop.learnable_step_sizes`.
        first_order: leave second derivatives out of the meta-gradient.
        loss: of one task, in the inner loop and in the outer one.
        statistics: whose normalise the query set, see `innerloop.norm`.
        head_start: what the head starts from, see `innerloop.head_start`.
        head: what the head is called, where `head_start` is not "learnt".
        clip: clip each element of the inner gradients to [-clip, clip].
        optimizer: a pure function in place of plain descent, such as `innerloop.descent.adam()`.

    Raises:
        ValueError: a setting that cannot be meant.
    """

    adapt: tuple[str, ...] = ("*",)
    steps: int = 5
    lr: StepSizes = 0.01
    first_order: bool = False
    loss: Loss = F.cross_entropy
    statistics: Statistics = "query"
    head_start: HeadStart = "learnt"
    head: str = "head"
    clip: float | None = None
    optimizer: Optimizer | None = None

    def __post_init__(self) -> None:
        if isinstance(self.adapt, str):
            raise ValueError(f"adapt takes a tuple of patterns, got the text {self.adapt!r}: write ({self.adapt!r},)")
        if not isinstance(self.adapt, tuple) or not all(isinstance(pattern, str) for pattern in self.adapt):
            raise ValueError(f"adapt takes a tuple of patterns over parameter names, got {self.adapt!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int):
            raise ValueError(f"steps must be a whole number from 0, got {self.steps!r}")
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")
        check_step_sizes(self.lr)
        if not callable(self.loss):
            raise ValueError(f"loss takes a function of outputs and targets, got {self.loss!r}")
        check_statistics(self.statistics)
        if self.head_start not in get_args(HeadStart):
            raise ValueError(f"head_start must be one of {', '.join(get_args(HeadStart))}, got {self.head_start!r}")
        if self.clip is not None and not (isinstance(self.clip, int | float) and isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip must be a finite number above 0 or None, got {self.clip!r}")
        of_torch = isinstance(self.optimizer, type | torch.optim.Optimizer)
        if self.optimizer is not None and (of_torch or not callable(self.optimizer)):
            raise ValueError(
                f"optimizer takes a pure function of gradients, got {self.optimizer!r}: use innerloop.descent.adam() "
                "or innerloop.descent.momentum()"
            )

    def bind(self, model: nn.Module) -> Bound:
        """See `innerloop.bind`."""
        return bound_to(model, self)

    def __call__(
        self, model: nn.Module, episodes: Episodes, *, chunk_size: int | None = None, every_step: bool = False
    ) -> Tree:
        """See `predict`."""
        return bound_to(model, self)(episodes, chunk_size=chunk_size, every_step=every_step)


def predict(
    model: nn.Module,
    episodes: Episodes,
    inner: InnerLoop,
    *,
    chunk_size: int | None = None,
    every_step: bool = False,
) -> Tree:
    """Adapt to every task and return the query outputs, (k, t, q, w), differentiable in the model's parameters.

    Args:
        model: any module; one that ends in what adapts runs its frozen front once a task.
        episodes: the tasks.
        inner: how a task is learnt.
        chunk_size: tasks that run as one vmapped batch, 1 for a plain loop; None lets the device and the size decide.
            The numbers are the same; time and memory are not. A model that vmap cannot batch runs in a plain loop.
        every_step: the outputs after 0, 1, ..., n steps, k = n + 1; else after the last alone, k = 1.

    Raises:
        ValueError: an `adapt` pattern matches nothing, labels and outputs do not fit, or a norm would be wrong.
    """
    return bound_to(model, inner)(episodes, chunk_size=chunk_size, every_step=every_step)


def adapted(model: nn.Module, support_x: Tree, support_y: Tree, inner: InnerLoop) -> nn.Module:
    """A copy of the model that has learnt one task, (s, *x) and (s,), to keep and to use without innerloop.

    It is in eval mode, and its `TaskNorm`s keep the support set's statistics, so that images may come one at a time.
    Adapting is done in the mode that the model is in.

    >>> import torch
    >>> from innerloop import models
    >>> x, y = torch.rand(10, 3, 16, 16), torch.arange(5).repeat(2)
    >>> learnt = adapted(models.conv4(size=16, width=4), x, y, InnerLoop(lr=0.1))
    >>> bool(torch.allclose(learnt(x)[:1], learnt(x[:1]), atol=1e-5))
    True
    """
    state = adapt(model, support_x, support_y, inner)
    with lock_of(model):  # else another thread's parameters may stand in it
        copy = deepcopy(model).eval()
    if inner.head_start != "learnt":  # the head may have other ways
        head = copy.get_submodule(inner.head)
        for name, own in head.named_parameters():
            own.data = own.new_zeros(state[f"{inner.head}.{name}"].shape)
    copy.load_state_dict(state)
    return settled(copy, as_tree(support_x))


def adapt(model: nn.Module, support_x: Tree, support_y: Tree, inner: InnerLoop) -> dict[str, Tensor]:
    """Learn one task, (s, *x) and (s,), and return the state dict of the adapted model: `load_state_dict` takes it."""
    return bound_to(model, inner).adapt(support_x, support_y)
