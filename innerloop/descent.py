"""Gradient descent as functions: step sizes by pattern and step, clipping, optimisers, and the gradients themselves.

An optimiser here is a pure function, so that the outer loop can differentiate through it: from the gradients and its
state, None before the first step, to the directions to go in and its next state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad

from innerloop.kernels.function import derived_once
from innerloop.params import Params, chosen

Objective = Callable[[Params], Tensor]
Gradient = Callable[[Params], Params]
Optimizer = Callable[[Params, Any], tuple[Params, Any]]
StepSize = float | Tensor | Sequence[float]
"""A number; a tensor of no axis, or one whose first axis is the step and the rest none or the parameter's; numbers, one
a step. Where there are more steps, the last goes on."""
StepSizes = StepSize | Mapping[str, StepSize]


def momentum(decay: float = 0.9, *, nesterov: bool = False) -> Optimizer:
    """SGD with momentum, as `torch.optim.SGD(momentum=decay)`."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be from 0 to below 1, got {decay}")

    def direction(grads: Params, state: Any) -> tuple[Params, Any]:
        moved = grads if state is None else {name: decay * state[name] + g for name, g in grads.items()}
        return ({name: g + decay * moved[name] for name, g in grads.items()} if nesterov else moved), moved

    return direction


def adam(betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """As `torch.optim.Adam`, with eps inside the root, where the derivative at a gradient of 0 stays finite."""
    first, second = betas
    if not (0 <= first < 1 and 0 <= second < 1 and eps > 0):
        raise ValueError(f"betas must be from 0 to below 1 and eps above 0, got {betas} and {eps}")

    def direction(grads: Params, state: Any) -> tuple[Params, Any]:
        count, means, squares = (0, None, None) if state is None else state
        count += 1
        means = {n: (1 - first) * g + (first * means[n] if means else 0) for n, g in grads.items()}
        squares = {n: (1 - second) * g.square() + (second * squares[n] if squares else 0) for n, g in grads.items()}
        a, b = 1 - first**count, 1 - second**count
        return {n: m / a / (squares[n] / b + eps**2).sqrt() for n, m in means.items()}, (count, means, squares)

    return direction


def check_step_sizes(given: Any) -> None:
    """Refuse what is no step size: not finite, negative, not a number."""
    if isinstance(given, Mapping):
        if not given:
            raise ValueError("lr is an empty mapping: give each pattern a step size, such as {'*': 0.01}")
        for pattern, size in given.items():
            if not isinstance(pattern, str):
                raise ValueError(f"lr maps patterns over parameter names to step sizes, got the key {pattern!r}")
            check_step_sizes(size)
        return
    if isinstance(given, Tensor):
        if given.numel() == 0 or not given.is_floating_point() or not bool(torch.isfinite(given.detach()).all()):
            raise ValueError(f"lr must be finite numbers, got {given.detach()}")
        return
    numbers = list(given) if isinstance(given, list | tuple) else [given]
    good = all(isinstance(x, int | float) and not isinstance(x, bool) and isfinite(x) and x >= 0 for x in numbers)
    if not numbers or not good:
        raise ValueError(f"lr must be a finite number from 0, numbers (one a step) or a tensor, got {given!r}")


def sizes_for(
    lr: StepSizes, shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, Sequence[str]]
) -> dict[str, StepSize]:
    """The step size of each parameter that adapts; the last pattern that matches any of its names holds.

    Raises:
        ValueError: a pattern matches none, a parameter has no pattern, or a size does not fit its shape.
    """
    found: dict[str, StepSize] = {}
    patterns = lr if isinstance(lr, Mapping) else {"*": lr}
    for pattern, size in patterns.items():
        hit = [name for name in shapes if any(fnmatchcase(each, pattern) for each in names[name])]
        if not hit and shapes and isinstance(lr, Mapping):
            raise ValueError(f"lr has {pattern!r}, and no parameter that adapts matches: {', '.join(shapes)}")
        found |= dict.fromkeys(hit, size)
    if missing := [name for name in shapes if name not in found]:
        raise ValueError(f"lr has no step size for {', '.join(missing)}: add a pattern, such as '*'")
    for name, size in found.items():
        if isinstance(size, Tensor) and size.ndim > 1 and tuple(size.shape[1:]) != shapes[name]:
            raise ValueError(
                f"the step sizes of {name} have the shape {tuple(size.shape)}: the first axis is the step, and the "
                f"others must be its own, {shapes[name]}"
            )
    return {name: found[name] for name in shapes}


def size_at(size: StepSize, step: int) -> float | Tensor:
    """The step size of one step, counted from 0."""
    if isinstance(size, Tensor):
        return size if size.ndim == 0 else size[min(step, len(size) - 1)]
    return size[min(step, len(size) - 1)] if isinstance(size, Sequence) else size


def learnable_step_sizes(
    model: nn.Module, adapt: tuple[str, ...] = ("*",), lr: float = 0.01, *, steps: int | None = None, each: bool = False
) -> dict[str, nn.Parameter]:
    """Step sizes that the outer loop learns, one for each parameter that adapts: pass them as `lr` of an `InnerLoop`.

    Give their values to the outer optimizer beside the model's parameters. With `each`, one for every number of a
    parameter (Meta-SGD, Li et al. 2017); with `steps`, one for every step (MAML++'s LSLR, Antoniou et al. 2019).

    >>> from innerloop import models
    >>> sizes = learnable_step_sizes(models.mlp(1, 1), lr=0.05, steps=5)
    >>> sizes["head.bias"].shape
    torch.Size([5])
    """
    own = dict(model.named_parameters())
    shapes = {
        name: (steps or 1, *own[name].shape) if each else (steps,) if steps else () for name in chosen(model, adapt)
    }
    return {name: nn.Parameter(torch.full(shape, lr).to(own[name])) for name, shape in shapes.items()}


def descend(
    objective: Objective,
    params: Params,
    steps: int,
    sizes: Mapping[str, StepSize],
    *,
    first_order: bool = False,
    clip: float | None = None,
    optimizer: Optimizer | None = None,
    gradient: Callable[[Objective], Gradient] = grad,
) -> Iterator[Params]:
    """The parameters after 0, 1, ..., `steps` steps down `objective`; those without a size stay as they are.

    Differentiable in `params` and `sizes`: through the gradients, or only around them if `first_order`.
    """
    yield params
    state: Any = None
    for step in range(steps if sizes else 0):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order):
            grads = gradient(objective)({name: params[name] for name in sizes})
        if clip is not None:
            grads = {name: g.clamp(-clip, clip) for name, g in grads.items()}
        if optimizer is not None:
            grads, state = optimizer(grads, state)
        params = {
            **params,
            **{name: _step(params[name], grads[name], size_at(size, step)) for name, size in sizes.items()},
        }
        yield params
    for _ in range(0 if sizes else steps):
        yield params


def _step(p: Tensor, g: Tensor, size: float | Tensor) -> Tensor:
    if (
        isinstance(size, Tensor) or torch.is_grad_enabled()
    ):  # a training keeps its bits: MAML makes much of the last one
        return p - size * g
    return torch.sub(p, g, alpha=size)


def last(steps: Iterator[Params]) -> Params:
    """The parameters after the last step, with none of those before kept."""
    return deque(steps, maxlen=1).pop()


def loop_grad(objective: Objective) -> Gradient:
    """As `torch.func.grad` outside of vmap, with less to do for each call: small tasks feel it."""

    def gradient(params: Params) -> Params:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad(), nullcontext() if differentiable else derived_once():
            at = {
                name: p if differentiable and p.requires_grad else p.detach().requires_grad_()
                for name, p in params.items()
            }
            grads = torch.autograd.grad(
                objective(at), list(at.values()), create_graph=differentiable, materialize_grads=True
            )
        return dict(zip(at, grads, strict=True))

    return gradient


def linear_grad(features: Tensor, labels: Tensor, weight: str, bias: str | None) -> Gradient:
    """The gradient of the mean cross entropy of one linear layer, written out: features' (softmax - one-hot) / s.

    Features are (s, f), labels (s,), of which -100 counts as nothing, as in `torch.nn.functional.cross_entropy`.
    """
    counted = (labels != -100).to(features.dtype)
    share = counted / counted.sum()
    weighed = features * share.unsqueeze(1)
    targets: list[Tensor] = []

    def gradient(params: Params) -> Params:
        w = params[weight]
        if not targets:
            targets.append(torch.eq(labels.unsqueeze(1), torch.arange(len(w), device=labels.device)).to(w.dtype))
        b = None if bias is None else params[bias]
        off = (nn.functional.linear(features, w, b).softmax(1) - targets[0]).mT
        grads = {weight: off @ weighed}
        return grads if bias is None else grads | {bias: off @ share}

    return gradient
