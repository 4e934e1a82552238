"""What the head starts from in each task: as the outer loop learnt it, or one of three that know no order of classes.

* "learnt": its own weights.
* "zero": zeros (Kao et al. 2022, who show that the first weights are an interference term of the meta-gradient).
* "shared": one vector for all classes, the mean of its own rows (Ye & Chao 2022, UNICORN-MAML).
* "prototypes": 2 c and -|c|^2, c the mean features of a class in the support set: a linear layer that answers as a
  prototypical network (Triantafillou et al. 2020, Proto-MAML).

With the last three a head has as many outputs as the task has classes, whatever it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.choices import HeadStart
from innerloop.params import Params
from innerloop.trees import Tree


def head_parts(model: nn.Module, head: str, start: HeadStart) -> tuple[str, str | None]:
    """The names of the head's weight and bias, None where it has none.

    Raises:
        ValueError: there is no such module, it is no linear layer, or prototypes lack a bias.
    """
    modules = dict(model.named_modules())
    if head not in modules or not head:
        raise ValueError(f"the model has no module {head!r} to start anew. It has: {', '.join(filter(None, modules))}.")
    module = modules[head]
    if not isinstance(module, nn.Linear):
        raise ValueError(f"head_start={start!r} needs a linear head, and {head} is a {type(module).__name__}")
    if start == "prototypes" and module.bias is None:
        raise ValueError(f'head_start="prototypes" needs a head with a bias, which {head} has not')
    return f"{head}.weight", None if module.bias is None else f"{head}.bias"


def first_head(
    own: Params,
    parts: tuple[str, str | None],
    start: HeadStart,
    way: int,
    support_y: Tensor,
    features: Callable[[], Tensor],
) -> Params:
    """The head's weight (w, f) and bias (w,) for a task with these support labels, (s,), of `way` classes."""
    weight, bias = parts
    w, b = own[weight], None if bias is None else own[bias]
    if start == "prototypes":
        given = features().flatten(1)
        members = torch.eq(torch.arange(way, device=given.device).unsqueeze(1), support_y).to(given.dtype)
        means = members @ given / members.sum(1, keepdim=True).clamp_min(1)
        new, shift = 2 * means, -means.square().sum(1)
    elif start == "shared":
        new = w.mean(0, keepdim=True).expand(way, -1)
        shift = None if b is None else b.mean(0, keepdim=True).expand(way)
    else:
        new, shift = w.new_zeros(way, w.shape[1]), None if b is None else b.new_zeros(way)
    return {weight: new} if bias is None or shift is None else {weight: new, bias: shift}


def into(module: nn.Module, call: Callable[[Tree], Any], x: Tree, *, what: str = "head") -> Tensor:
    """What `module` gets as its input where `call` of x runs it, a copy.

    Raises:
        ValueError: it does not run.
    """
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        call(x)
    finally:
        hook.remove()
    if not seen:
        raise ValueError(f"the model never calls its module {what!r}; name the head that it calls")
    return seen[0]
