"""The textbook for any module: a loop over tasks and steps in float64, `torch.autograd.grad`, parameters by name.

Nothing here uses innerloop. As `oracle.py`, but the module is run as it is, through `torch.func.functional_call`.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.func import functional_call


def meta(model, episodes, loss, steps, lr, adapts=lambda _: True, *, first_order=False, first=lambda own, *_: own):
    """Query outputs of each task (t, q, ...), the mean of their losses, its gradient by name.

    `lr` is a number or a function of name and step; `first` gives the parameters that a task starts from.
    """
    model = deepcopy(model)
    own = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
    rate = lr if callable(lr) else lambda *_: lr
    outputs, total = [], 0
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        params = {n: p.view_as(p) for n, p in first(own, support_x, support_y).items()}
        params = {
            n: p if p.requires_grad else p.clone().requires_grad_(own[n].requires_grad) for n, p in params.items()
        }
        names = [name for name in params if adapts(name) and own[name].requires_grad]
        for step in range(steps):
            value = loss(functional_call(model, params, (support_x,)), support_y)
            grads = torch.autograd.grad(
                value, [params[n] for n in names], create_graph=not first_order, materialize_grads=True
            )
            params = params | {n: params[n] - rate(n, step) * g for n, g in zip(names, grads, strict=True)}
        outputs.append(functional_call(model, params, (query_x,)))
        total = total + loss(outputs[-1], query_y) / len(episodes[0])
    trained = [name for name, p in own.items() if p.requires_grad]
    grads = torch.autograd.grad(total, [own[n] for n in trained], materialize_grads=True)
    return torch.stack(outputs).detach(), total.detach(), dict(zip(trained, grads, strict=True))
