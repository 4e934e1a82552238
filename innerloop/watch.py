"""One forward pass that is watched: what a module does is seen by running it, not read from its code.

Seen are: layers that write into their input, code that runs again later (activation checkpointing, hooks on tensors and
on what the graph saves), fused norms whose own weight adapts, running statistics that are being gathered, attributes
that keep what passed, and whether one module, the head, holds all that adapts and ends the network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from innerloop.params import Params, lock_of
from innerloop.trees import Tree, each, leaves

_FUSED = ("batch_norm", "layer_norm", "instance_norm", "native_layer_norm")
_KEPT = (list, dict, set)


@dataclass
class Seen:
    """What happened in a forward pass."""

    outputs: Any = None
    later: bool = False  # code runs again when gradients are asked for
    fused: list[str] = field(default_factory=list)  # norms whose own weight or bias may adapt
    gathers: bool = False  # a norm updates running statistics
    batch: bool = False  # a batch norm of torch's takes the statistics of the batch


class _Watch(TorchFunctionMode):
    """Sees every call of a function of torch."""

    def __init__(self, still: Collection[Tensor]) -> None:
        super().__init__()
        self.seen, self.hooks, self.still = Seen(), _hooks(), {id(x) for x in still}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if _hooks() != self.hooks or name in ("register_hook", "register_post_accumulate_grad_hook"):
            self.seen.later = True
        elif name in _FUSED:
            parts = [*args[1:], *kwargs.values()]
            if any(x.requires_grad and id(x) not in self.still for x in parts if isinstance(x, Tensor)):
                self.seen.fused.append(name)
            if func in (F.batch_norm, F.instance_norm):
                given = inspect.signature(func).bind(*args, **kwargs)
                given.apply_defaults()
                by_batch = bool(given.arguments.get("training", given.arguments.get("use_input_stats")))
                self.seen.gathers |= by_batch and given.arguments["running_mean"] is not None
                self.seen.batch |= by_batch and func is F.batch_norm
        return func(*args, **kwargs)


def _hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def watched(call: Callable[[], Any], still: Collection[Tensor] = ()) -> Seen:
    """What `call` does, given the parameters that do not adapt; the random generators are as before afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.enable_grad(), _Watch(still) as watch:
        watch.seen.outputs = call()
    return watch.seen


def written(x: Tree, before: Tree) -> bool:
    """Whether a tensor of the tree `x`, a fresh copy of `before` when it was made, has been written into."""
    try:
        return any(
            one._version > 0 or not _equal(one.detach(), other.detach())
            for one, other in zip(leaves(x), leaves(before), strict=True)
        )
    except RuntimeError:  # inside a transform, where values cannot be asked for
        return True


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def fresh(x: Tree) -> Tree:
    """A copy whose counters of writes are 0."""
    return each(lambda part: part.detach().clone(), x)


@dataclass(frozen=True)
class Snapshot:
    """What the modules of a model keep in their attributes, to be put back."""

    attributes: dict[nn.Module, dict[str, Any]]
    contents: list[tuple[Any, Any]]  # lists, dicts and sets among them, and copies of these

    def changed(self) -> list[nn.Module]:
        """The modules whose attributes hold something else now."""
        inside = {id(whole) for whole, copy in self.contents if not _same(whole, copy)}
        return [
            module
            for module, old in self.attributes.items()
            if vars(module).keys() != old.keys()
            or any(vars(module)[key] is not value or id(value) in inside for key, value in old.items())
        ]

    def restore(self) -> None:
        """Put everything back."""
        for module, old in self.attributes.items():
            now = vars(module)
            for key in now.keys() - old.keys():
                del now[key]
            now.update(old)
        for whole, copy in self.contents:
            if not _same(whole, copy):
                whole.clear()
                whole.extend(copy) if isinstance(whole, list) else whole.update(copy)


def snapshot(modules: Iterator[nn.Module] | list[nn.Module]) -> Snapshot:
    """Of these modules; what torch itself keeps in them, such as parameters and hooks, is not looked into."""
    attributes = {module: dict(vars(module)) for module in modules}
    own = nn.Module().__dict__.keys()
    found = [v for old in attributes.values() for k, v in old.items() if isinstance(v, _KEPT) and k not in own]
    return Snapshot(attributes, [(whole, whole.copy()) for whole in found])


def _same(whole: Any, copy: Any) -> bool:
    if len(whole) != len(copy):
        return False
    if isinstance(whole, dict):
        return all(key in whole and whole[key] is value for key, value in copy.items())
    return whole == copy if isinstance(whole, set) else all(a is b for a, b in zip(whole, copy, strict=True))


def tidy(call: Callable[..., Any], modules: list[nn.Module], model: nn.Module) -> Callable[..., Any]:
    """`call`, after which these modules of `model` are as they were: nothing of a transform stays in them."""
    if not modules:
        return call
    lock = lock_of(model)

    def tidied(*args: Any) -> Any:
        with lock:
            before = snapshot(modules)
            try:
                return call(*args)
            finally:
                before.restore()

    return tidied


@dataclass
class Ends:
    """Whether a module gets one tensor, once, and what it puts out is what the network puts out."""

    calls: int = 0
    given: Any = None
    copy: Any = None  # of it, before the module ran
    wrote: bool = False  # into it
    output: Any = None
    version: int = 0
    plain: bool = True  # one positional argument

    def at_end(self, outputs: Any, adapting: Collection[Tensor]) -> bool:
        """Given what the loss reads of the network's outputs, and the parameters that adapt."""
        return (
            self.calls == 1
            and self.plain
            and isinstance(self.given, Tensor)
            and outputs is self.output
            and outputs._version == self.version
            and not _depends(self.given, adapting)
        )


def _depends(x: Tensor, on: Collection[Tensor]) -> bool:
    if not x.requires_grad:
        return False
    with torch.enable_grad():
        return any(g is not None for g in torch.autograd.grad(x.sum(), list(on), allow_unused=True))


@contextmanager
def ending(module: nn.Module) -> Iterator[Ends]:
    """Inside, calls of `module` are noted."""
    ends = Ends()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ends.calls, ends.given, ends.plain = ends.calls + 1, args[0] if args else None, len(args) == 1 and not kwargs
        ends.copy = fresh(ends.given)
        ends.version = getattr(ends.given, "_version", 0)

    def after(_: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        if isinstance(ends.given, Tensor):
            ends.wrote = ends.given._version != ends.version or written(ends.copy, ends.given)
        ends.output, ends.version = output, getattr(output, "_version", 0)

    handles = [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        yield ends
    finally:
        for handle in handles:
            handle.remove()


def loose(call: Callable[[Params, Tree], Any], params: Params, x: Tree) -> dict[str, bool]:
    """For each of `params`, whether the first outputs do not depend on it."""
    at = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    with torch.random.fork_rng([]), torch.enable_grad():
        outputs = [y for y in leaves(call(at, x)) if y.requires_grad]
        total = sum((y.sum() for y in outputs), torch.zeros(()))
        if not outputs:
            return dict.fromkeys(at, True)
        grads = torch.autograd.grad(total, list(at.values()), allow_unused=True)
    return {name: g is None for name, g in zip(at, grads, strict=True)}


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards the buffers hold the numbers of before."""
    before = [(x, x.detach().clone()) for x in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, copy in before:
                x.copy_(copy)


def is_lazy(model: nn.Module) -> bool:
    """Whether it has parameters that a first pass must make."""
    return any(
        isinstance(x, UninitializedParameter | UninitializedBuffer) for x in (*model.parameters(), *model.buffers())
    )


def trial(model: nn.Module) -> dict[str, Tensor]:
    """A state to try the model with: its parameters, as leaves of another graph, and copies of its buffers."""
    own = {name: p.detach().requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
    return own | {name: x.detach().clone() for name, x in model.named_buffers()}
