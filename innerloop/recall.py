"""What was made of a model once is made once, as long as the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from innerloop.params import lock_of

_KEPT = 8  # of one model
_MADE: WeakKeyDictionary[nn.Module, list[tuple[Any, Any, Any]]] = WeakKeyDictionary()

T = TypeVar("T")


def recalled(model: nn.Module, key: Any, make: Callable[[], T]) -> T:
    """`make()`, or what it returned before for the same object `key` and a model of the same state.

    The state is which modules and tensors it has, and what their attributes are; not the numbers in the tensors.
    """
    if in_transform():
        return make()
    with lock_of(model):  # else another thread's parameters may stand in it
        state, made = _state(model), _MADE.setdefault(model, [])
        for known, before, value in made:
            if known is key and before == state:
                return value
        value = make()
        made.append((key, _state(model), value))
        del made[:-_KEPT]
        return value


def in_transform() -> bool:
    """Whether a transform of torch.func is running, in which the values of tensors cannot be asked for."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


@contextmanager
def waiting() -> Iterator[None]:
    """Inside, waiting for a GPU is allowed, also where it is an error around: a first look at a model has to."""
    if not torch.cuda.is_initialized():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _state(model: nn.Module) -> list[int]:
    state: list[int] = []
    for module in model.modules():
        own = vars(module)
        state.append(id(module))
        state.extend(map(id, own.values()))
        for name in ("_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"):
            state.extend(map(id, own[name].values()))
        state.extend(p.requires_grad for p in own["_parameters"].values() if p is not None)
    return state
