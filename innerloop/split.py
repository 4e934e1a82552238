"""A model in two: what no step of the inner loop changes runs once a task, the rest once a step."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from innerloop.accuracy import check_targets
from innerloop.choices import Statistics
from innerloop.descent import StepSize, sizes_for
from innerloop.head_start import into
from innerloop.norm import GATHERS, NO_SUPPORT, check_norms
from innerloop.params import Params, as_copies, as_function, cut, lock_of, names_of
from innerloop.recall import in_transform, waiting
from innerloop.trees import Tree, each, leaves, pytree, read_by, run
from innerloop.watch import Ends, Seen, ending, fresh, is_lazy, loose, snapshot, tidy, trial, watched, written

if TYPE_CHECKING:
    from innerloop.inner import InnerLoop


@dataclass(frozen=True)
class Parts:
    """A model as two functions, and how they may run."""

    front: Callable[[Tree], Tree]
    back: Callable[[Params, Tree], Any]
    linear: tuple[str, str | None] | None  # weight and bias, where the back is one linear layer
    sizes: dict[str, StepSize]  # of the steps, by parameter
    unbatched: bool  # code of it runs again later, or it puts out what is no tensor
    fused: bool  # the weight of a fused norm adapts

    def loops(self, second_order: bool) -> bool:
        """Whether tasks must run one by one.

        Fused norms give wrong second-order gradients under vmap once their own weight adapts (pytorch/functorch#534).
        """
        return self.unbatched or (self.fused and second_order)


def kind_of(model: nn.Module, x: Tree) -> Any:
    """What the behaviour of a model may depend on: the modes of its modules, and the kind of its inputs, (n, *x)."""
    inputs = tuple((part.dtype, part.device, part.shape[1:]) for part in leaves(x))
    shape = None if isinstance(x, Tensor) else str(pytree.tree_structure(x))
    return tuple(module.training for module in model.modules()), inputs, shape


def look(model: nn.Module, inner: InnerLoop, adapting: list[str], replaced: list[str], x: Tree, y: Tree) -> Parts:
    """Watch the model on the support set of one task, (s, *x) and (s, ...), and split it.

    Raises:
        ValueError: it would give wrong numbers, or the targets do not fit the loss.
    """
    if in_transform():
        with lock_of(model):
            return _unseen(model, inner, adapting, replaced)
    with lock_of(model), waiting():
        if is_lazy(model):
            with torch.no_grad():
                run(model, fresh(x))
        check_norms(model, inner.statistics)
        front, back = cut(model, replaced)
        whole = back is model
        end = _end(model, replaced) if whole else None
        before = snapshot(list(model.modules()))
        try:
            with ending(end or model) as ends:
                state, given = trial(model), fresh(x)
                still = [value for name, value in state.items() if name not in adapting]
                first = watched(lambda: as_function(front, model)(state, given))
                middle = fresh(first.outputs)
                second = watched(lambda: as_function(back, model)(state, middle), still)
            keepers = before.changed()
        finally:
            before.restore()
        outputs = read_by(inner.loss, second.outputs)
        check_seen(first, inner.statistics)
        check_seen(second, inner.statistics)
        check_targets(outputs, y, inner.loss)
        wrote = written(given, x), written(middle, first.outputs)
        later = first.later or second.later
        if end is not None and not later and ends.at_end(outputs, [state[name] for name in adapting]):
            parts = _behind_head(model, end, ends, replaced, wrote[1])
            back = end
        else:
            parts = _one_after_other(model, front, back, replaced, wrote, later, middle=fresh(first.outputs))
        odd = any(not isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(outputs))
        return Parts(
            tidy(parts[0], keepers, model), tidy(parts[1], keepers, model), _linear(model, back, later),
            _sizes(model, inner, adapting), later or odd, bool(second.fused),
        )  # fmt: skip


def _unseen(model: nn.Module, inner: InnerLoop, adapting: list[str], replaced: list[str]) -> Parts:
    """Inside a transform of torch.func, where nothing can be watched: split by what the modules are."""
    check_norms(model, inner.statistics)
    for name, module in model.named_modules():
        fused = isinstance(module, nn.LayerNorm | nn.modules.batchnorm._NormBase)  # pyright: ignore[reportPrivateUsage]
        own = [f"{name}.{part}" if name else part for part, _ in module.named_parameters(recurse=False)]
        if fused and not inner.first_order and set(own) & set(adapting):
            raise ValueError(f"{name} is a {type(module).__name__} that adapts, wrong inside vmap: use TaskNorm")
    front, back = cut(model, replaced)
    once, step = _one_after_other(model, front, back, replaced, (True, True), later=False)
    return Parts(once, step, _linear(model, back, later=False), _sizes(model, inner, adapting), False, False)


def _sizes(model: nn.Module, inner: InnerLoop, adapting: list[str]) -> dict[str, StepSize]:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name in adapting}
    return sizes_for(inner.lr, shapes, {all_[0]: all_ for all_ in names_of(model).values()})


def check_seen(seen: Seen, statistics: Statistics) -> None:
    """Refuse norms, called as functions, that would give wrong numbers over tasks."""
    if seen.gathers:
        raise ValueError(f"the model calls a norm that {GATHERS}")
    if statistics == "support" and seen.batch:
        raise ValueError(f"the model calls a batch norm, which {NO_SUPPORT}")


def _one_after_other(
    model: nn.Module, front: nn.Module, back: nn.Module, names: Collection[str], wrote: tuple[bool, bool], later: bool,
    middle: Tree = None,
) -> tuple[Callable[[Tree], Tree], Callable[[Params, Tree], Any]]:  # fmt: skip
    """The front with the model's own parameters, and the back as a function of those that are replaced."""
    lock, call = lock_of(model), as_function(back, model, names)
    if later:
        params, swapped = {name: p for name, p in model.named_parameters() if name in names}, call
        call = as_copies(back, model, names)
        if loose(call, params, fresh(middle)) != loose(swapped, params, fresh(middle)):
            raise ValueError(
                "the model runs code again when gradients are asked for (activation checkpointing, or a hook), and "
                "reaches parameters by ways that are no submodules: turn checkpointing off, or register the modules"
            )

    def once(x: Tree) -> Tree:
        with lock:
            return run(front, each(torch.clone, x) if wrote[0] else x)

    def step(params: Params, x: Tree) -> Any:
        return call(params, each(torch.clone, x))

    return (once if len(list(front.children())) else lambda x: x), step if wrote[1] else call


def _behind_head(
    model: nn.Module, end: nn.Module, ends: Ends, names: Collection[str], wrote: bool
) -> tuple[Callable[[Tree], Tree], Callable[[Params, Tree], Any]]:
    """What the last module gets, seen by a hook on it, and that module as a function."""
    lock, call = lock_of(model), as_function(end, model, names)

    def once(x: Tree) -> Tree:
        with lock:
            return into(end, lambda x: run(model, x), each(torch.clone, x) if wrote else x)

    def step(params: Params, x: Tree) -> Any:
        return call(params, each(torch.clone, x))

    return once, step if ends.wrote else call


def _end(model: nn.Module, names: Collection[str]) -> nn.Module | None:
    """The smallest module below the model that holds all these parameters."""
    wanted = {id(p) for name, p in model.named_parameters() if name in names}
    if not wanted:
        return None
    holds = [(len(list(m.modules())), m) for m in model.modules() if wanted <= {id(p) for p in m.parameters()}]
    end = min(holds, key=lambda pair: pair[0])[1]
    return None if end is model else end


def _linear(model: nn.Module, back: nn.Module, later: bool) -> tuple[str, str | None] | None:
    """The names of the weight and bias of a back that is one linear layer and nothing else."""
    if isinstance(back, nn.Sequential) and len(back) == 1 and type(back).forward is nn.Sequential.forward:
        back = back[0]
    hooks = back._forward_hooks, back._forward_pre_hooks, back._backward_hooks, back._backward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    if type(back) is not nn.Linear or "forward" in vars(back) or any(hooks) or later:
        return None
    first = {key: all_[0] for key, all_ in names_of(model).items()}
    weight, bias = (first.get(id(p)) for p in (back.weight, back.bias))
    return None if weight is None else (weight, bias)
