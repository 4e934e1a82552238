"""Modules as functions of their parameters: choose parameters by name, split a network, call it with others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from itertools import chain

from torch import Tensor, nn
from torch.func import functional_call

Params = Mapping[str, Tensor]


def chosen(model: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Names of the parameters that adapt, in the model's order.

    Raises:
        ValueError: a pattern matches no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    picked: set[str] = set()
    for pattern in patterns:
        hit = {name for name in names if fnmatchcase(name, pattern.removeprefix("!"))}
        if not hit:
            raise ValueError(f"adapt pattern {pattern!r} matches no parameter. This model has: {', '.join(names)}.")
        picked = picked - hit if pattern.startswith("!") else picked | hit
    return [name for name in names if name in picked]


def cut(model: nn.Module, adapting: list[str]) -> tuple[nn.Module, nn.Module]:
    """Split a Sequential before the first child that adapts: the frozen front runs once a task, not once a step.

    Any other module stays whole, and so does one with shared parameters, which costs time and changes no number.
    """
    shared = len(list(model.parameters())) < len(list(model.named_parameters(remove_duplicate=False)))
    if type(model).forward is not nn.Sequential.forward or not adapting or shared:
        return nn.Sequential(), model
    parts = children(model)
    names = [name for name, _ in parts]
    first = min(names.index(name.split(".")[0]) for name in adapting)
    return nn.Sequential(OrderedDict(parts[:first])), nn.Sequential(OrderedDict(parts[first:]))


def children(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All children in order; unlike `named_children`, one that stands twice comes twice."""
    return [(name, part) for name, part in model.named_modules(remove_duplicate=False) if name and "." not in name]


def as_function(part: nn.Module) -> Callable[[Params, Tensor], Tensor]:
    """`part` as a function of its parameters and buffers, each under the first of its names."""
    first = {id(value): name for name, value in chain(part.named_parameters(), part.named_buffers())}
    slots: dict[str, str] = {}
    for prefix, module in part.named_modules():  # each once: functional_call does not put back what it swaps twice
        own = (module.named_parameters(recurse=False, remove_duplicate=False), module.named_buffers(recurse=False))
        for name, value in chain(*own):
            slots[f"{prefix}.{name}" if prefix else name] = first[id(value)]

    def call(params: Params, x: Tensor) -> Tensor:
        values = {slot: params[name] for slot, name in slots.items()}
        return functional_call(part, values, (x,), tie_weights=False)

    return call
