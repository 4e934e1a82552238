"""The inner loop, whole: choose the parameters that adapt, descend on the support set, predict the query set.

MAML adapts every parameter, ANIL the head alone, BOIL all but the head, and "freeze layers 1..k at test time" is one
more choice: they differ in `InnerLoop.adapt` and in nothing else.

Shapes: t tasks, s support items and q query items a task, w ways, *x one input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from innerloop.norm import Statistics, check_norms, query_outputs
from innerloop.params import Params, as_function, chosen, cut
from innerloop.tasks import Episodes, over_tasks, pick_chunk_size

Objective = Callable[[Params], Tensor]
Gradient = Callable[[Params], Params]
Loss = Callable[[Tensor, Tensor], Tensor]
"""From the outputs of one task's set, (n, w), and its targets, (n,) labels or (n, ...) values, to their mean loss."""


@dataclass(frozen=True)
class InnerLoop:
    """How one task is learnt: plain gradient descent on its support set. Called, it predicts (see `predict`)."""

    adapt: tuple[str, ...] = ("*",)  # shell patterns over parameter names, left to right; "!" takes names away again
    steps: int = 5
    lr: float = 0.01
    first_order: bool = False  # leave second derivatives out of the meta-gradient
    loss: Loss = F.cross_entropy  # of one task, in the inner loop and in the outer one
    statistics: Statistics = "query"  # whose normalise the query set, see `innerloop.norm`

    def __post_init__(self) -> None:
        if isinstance(self.adapt, str):
            raise ValueError(f"adapt takes a tuple of patterns, got the text {self.adapt!r}: write ({self.adapt!r},)")
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,
    ) -> Tensor:
        """See `predict`."""
        return predict(model, episodes, self, chunk_size=chunk_size, every_step=every_step)


def descend(
    objective: Objective, params: Params, inner: InnerLoop, *, gradient: Callable[[Objective], Gradient] = grad
) -> Iterator[Params]:
    """The parameters after 0, 1, ..., `inner.steps` gradient steps on `objective`.

    Differentiable in `params`: through the gradients, or only around them if `inner.first_order`.
    """
    yield params
    for _ in range(inner.steps):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not inner.first_order):
            grads = gradient(objective)(params)
        params = {name: p - inner.lr * grads[name] for name, p in params.items()}
        yield params


def last(steps: Iterator[Params]) -> Params:
    """The parameters after the last step, with none of those before kept."""
    return deque(steps, maxlen=1).pop()


def loop_grad(objective: Objective) -> Gradient:
    """As `torch.func.grad` outside of vmap, with less to do for each call: small tasks feel it."""

    def gradient(params: Params) -> Params:
        if not params:
            return {}
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            at = {
                name: p if differentiable and p.requires_grad else p.detach().requires_grad_()
                for name, p in params.items()
            }
            grads = torch.autograd.grad(
                objective(at), list(at.values()), create_graph=differentiable, materialize_grads=True
            )
        return dict(zip(at, grads, strict=True))

    return gradient


def predict(
    model: nn.Module,
    episodes: Episodes,
    inner: InnerLoop,
    *,
    chunk_size: int | None = None,
    every_step: bool = False,
) -> Tensor:
    """Adapt to every task and return the query outputs, (k, t, q, w), differentiable in the model's parameters.

    Args:
        model: any module; a named Sequential runs its frozen front once a task.
        episodes: the tasks.
        inner: how a task is learnt.
        chunk_size: tasks that run as one vmapped batch, 1 for a plain loop; None lets the device and the size decide.
            The numbers are the same; time and memory are not.
        every_step: the outputs after 0, 1, ..., n steps, k = n + 1; else after the last alone, k = 1.

    Raises:
        ValueError: an `adapt` pattern matches nothing, labels and outputs do not fit, or a norm would be wrong.
    """
    adapting = chosen(model, inner.adapt)
    chunk_size = pick_chunk_size(episodes, chunk_size)
    check_norms(
        model,
        adapting,
        inner.statistics,
        vmapped=chunk_size > 1,
        first_order=inner.first_order or not torch.is_grad_enabled(),
    )
    largest = largest_label(episodes.support_y)
    front, back = map(as_function, cut(model, adapting))
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    start = {name: state[name] for name in adapting}

    def one_task(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        def run_front(x: Tensor) -> Tensor:
            return front(state, x)

        def objective(params: Params) -> Tensor:
            logits = back({**state, **params}, support)
            check_label(largest, logits)
            return inner.loss(logits, support_y)

        def outputs(params: Params) -> Tensor:
            return query_outputs(lambda x: back({**state, **params}, x), support, query, inner.statistics)

        support = run_front(support_x)
        query = query_outputs(run_front, support_x, query_x, inner.statistics)
        steps = descend(objective, start, inner, gradient=grad if chunk_size > 1 else loop_grad)
        return torch.stack([outputs(params) for params in (steps if every_step else [last(steps)])])

    return over_tasks(one_task, episodes[:3], chunk_size).transpose(0, 1)


def adapt(model: nn.Module, support_x: Tensor, support_y: Tensor, inner: InnerLoop) -> dict[str, Tensor]:
    """Learn one task, (s, *x) and (s,), and return the state dict of the adapted model: `load_state_dict` takes it."""
    adapting = chosen(model, inner.adapt)
    check_norms(model, adapting, "query", vmapped=False, first_order=True)
    front, back = map(as_function, cut(model, adapting))
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    largest = largest_label(support_y)

    def objective(params: Params) -> Tensor:
        logits = back({**state, **params}, support)
        check_label(largest, logits)
        return inner.loss(logits, support_y)

    with torch.no_grad():
        support = front(state, support_x)
        learnt = last(descend(objective, {name: state[name] for name in adapting}, inner, gradient=loop_grad))
    new = {id(state[name]): value for name, value in learnt.items()}  # a shared parameter changes under all its names

    def kept(value: Any) -> Any:
        return new.get(id(value), value.detach().clone()) if isinstance(value, Tensor) else value  # else extra state

    return {name: kept(value) for name, value in model.state_dict(keep_vars=True).items()}


def largest_label(labels: Tensor) -> int:
    """-1 where there are no labels, or where knowing would mean to wait for a GPU."""
    known = labels.numel() > 0 and labels.device.type == "cpu" and labels.dtype in (torch.int64, torch.int32)
    return int(labels.max()) if known else -1


def check_label(largest: int, outputs: Tensor) -> None:
    """Refuse a label that has no output, (..., w)."""
    if largest >= outputs.shape[-1]:
        raise ValueError(
            f"label {largest} does not fit the model's {outputs.shape[-1]} outputs: labels start at 0, and the head "
            "needs an output for each way"
        )
