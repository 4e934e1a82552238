"""Modules as functions of their parameters: choose parameters by name, split a network, call it with others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from innerloop.trees import Tree, run

Params = Mapping[str, Tensor]

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def names_of(model: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter, by its id, in the model's order: a shared one has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def chosen(model: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Names of the parameters that adapt, in the model's order; a shared one goes by any of its names.

    Parameters with `requires_grad=False` never adapt.

    Raises:
        ValueError: a pattern matches no parameter, or only such as do not train.
    """
    names = names_of(model)
    trains = {id(p) for p in model.parameters() if p.requires_grad or is_functorch_wrapped_tensor(p)}
    picked: set[int] = set()
    for pattern in patterns:
        hit = {key for key, all_ in names.items() if any(fnmatchcase(n, pattern.removeprefix("!")) for n in all_)}
        if not hit:
            raise ValueError(_no_match(model, pattern, [all_[0] for all_ in names.values()]))
        if pattern.startswith("!"):
            picked -= hit
        elif not hit & trains:
            raise ValueError(
                f"adapt pattern {pattern!r} matches parameters with requires_grad=False alone, which never adapt: call "
                "requires_grad_(True) on those that should, or leave the pattern out"
            )
        else:
            picked |= hit & trains
    return [all_[0] for key, all_ in names.items() if key in picked]


def _no_match(model: nn.Module, pattern: str, names: list[str]) -> str:
    text = f"adapt pattern {pattern!r} matches no parameter. This model has: {', '.join(names)}."
    last = [name for name, child in model.named_children() if any(True for _ in child.parameters())][-1:]
    if pattern.removeprefix("!") == "head.*" and last:
        text += f" If its head is {last[0]!r}, say so: head={last[0]!r}."
    return text


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
    return type(model).forward is nn.Sequential.forward and "forward" not in vars(model) and not any(own)


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
    with lock_of(model):
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def lock_of(model: nn.Module) -> Any:
    """Who calls the model with other parameters holds it: two threads would see each other's."""
    return _LOCKS.setdefault(model, RLock())


class Slot(NamedTuple):
    """Where a tensor lives in a module, and the name that it goes by."""

    own: dict[str, Any]
    key: str
    name: str


def slots_of(part: nn.Module, model: nn.Module | None = None, names: Collection[str] | None = None) -> list[Slot]:
    """The places of the parameters and buffers of `part`, by the first of their names in `model`, itself if None."""
    first: dict[int, str] = {}
    for prefix, module in (part if model is None else model).named_modules():
        for own in (module._parameters, module._buffers):  # pyright: ignore[reportPrivateUsage]
            for key, value in own.items():
                if value is not None:
                    first.setdefault(id(value), f"{prefix}.{key}" if prefix else key)
    return [
        Slot(own, key, first[id(value)])
        for module in part.modules()
        for own in (module._parameters, module._buffers)  # pyright: ignore[reportPrivateUsage]
        for key, value in own.items()
        if value is not None and (names is None or first[id(value)] in names)
    ]


def as_function(
    part: nn.Module, model: nn.Module | None = None, names: Collection[str] | None = None
) -> Callable[[Params, Tree], Any]:
    """`part` of `model` as a function of its parameters and buffers, those with these names or all.

    As `torch.func.functional_call`, with less to do for each call: small networks feel it.
    """
    slots, lock = slots_of(part, model, names), lock_of(part if model is None else model)

    def call(params: Params, x: Tree) -> Any:
        with lock:
            kept = [own[key] for own, key, _ in slots]
            try:
                for own, key, name in slots:
                    own[key] = params[name]
                return run(part, x)
            finally:
                for (own, key, _), value in zip(slots, kept, strict=True):
                    own[key] = value

    return call


def as_copies(part: nn.Module, model: nn.Module, names: Collection[str]) -> Callable[[Params, Tree], Any]:
    """As `as_function`, but each call is of a new copy that keeps its parameters.

    For modules whose code runs again later, as activation checkpointing does when gradients are asked for.
    """
    first, lock = {key: all_[0] for key, all_ in names_of(model).items()}, lock_of(model)

    def call(params: Params, x: Tree) -> Any:
        made: dict[int, nn.Module] = {}
        with lock:  # else another thread's parameters may stand in it
            copy = _copy(part, {key: params[name] for key, name in first.items() if name in names}, made)
        return run(copy, x)

    return call


def _copy(module: nn.Module, new: Mapping[int, Tensor], made: dict[int, nn.Module]) -> nn.Module:
    """The same module with some tensors replaced, by id; all that is no module and no tensor is shared."""
    if id(module) in made:
        return made[id(module)]
    copy = made[id(module)] = object.__new__(type(module))
    vars(copy).update(vars(module))
    own = vars(copy)
    own["_parameters"] = {key: new.get(id(x), x) for key, x in module._parameters.items()}  # pyright: ignore[reportPrivateUsage]
    for kept in ("_buffers", "_forward_hooks", "_forward_pre_hooks"):  # other threads add and remove hooks
        own[kept] = own[kept].copy()
    parts = module._modules.items()  # pyright: ignore[reportPrivateUsage]
    own["_modules"] = {key: child if child is None else _copy(child, new, made) for key, child in parts}
    return copy
