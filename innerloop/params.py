"""Modules as functions of their parameters: choose parameters by name, split a network, call it with others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

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

    Any other module stays whole, and so does one with shared parameters or buffers, which costs time and changes no
    number.
    """
    tensors = [
        id(x) for named in (model.named_parameters, model.named_buffers) for _, x in named(remove_duplicate=False)
    ]
    shared = len(set(tensors)) < len(tensors)
    if not is_chain(model) or not adapting or shared:
        return nn.Sequential(), model
    parts = children(model)
    names = [name for name, _ in parts]
    first = min(names.index(name.split(".")[0]) for name in adapting)
    return nn.Sequential(OrderedDict(parts[:first])), nn.Sequential(OrderedDict(parts[first:]))


def is_chain(model: nn.Module) -> bool:
    """Whether it is its children one after the other and nothing else, so that it can be taken apart."""
    own = model._parameters, model._buffers, model._forward_hooks, model._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    return type(model).forward is nn.Sequential.forward and not any(own)


def children(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All children in order; unlike `named_children`, one that stands twice comes twice."""
    return [(name, part) for name, part in model.named_modules(remove_duplicate=False) if name and "." not in name]


def layers_of(model: nn.Module) -> list[str]:
    """The names of a Sequential's children that have parameters, in order; the last is the head.

    Raises:
        ValueError: it is no Sequential, so that its layers have no order.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise ValueError(
            f"a {type(model).__name__} is no Sequential, so its layers have no order: pass layers=[...] in order, the "
            "head last, names from model.named_modules()"
        )
    return [name for name, part in children(model) if any(True for _ in part.parameters())]


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode, so that dropout rests; then every module is in the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def as_function(part: nn.Module) -> Callable[[Params, Tensor], Tensor]:
    """`part` as a function of its parameters and buffers, each under the first of its names.

    As `torch.func.functional_call`, with less to do for each call: small networks feel it.
    """
    first: dict[int, str] = {}
    slots: list[tuple[dict[str, Any], str, str]] = []  # where a tensor lives, its name there, the first of its names
    for prefix, module in part.named_modules():
        for own in (module._parameters, module._buffers):  # pyright: ignore[reportPrivateUsage]
            for key, value in own.items():
                if value is not None:
                    slots.append((own, key, first.setdefault(id(value), f"{prefix}.{key}" if prefix else key)))

    def call(params: Params, x: Tensor) -> Tensor:
        kept = [own[key] for own, key, _ in slots]
        try:
            for own, key, name in slots:
                own[key] = params[name]
            return part(x)
        finally:
            for (own, key, _), value in zip(slots, kept, strict=True):
                own[key] = value

    return call
