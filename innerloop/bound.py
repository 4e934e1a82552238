"""A model and an inner loop, bound: parameters chosen, the module watched once, split, and made into functions.

This is the unit that predicts, adapts, evaluates and trains: bind once where many batches follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from innerloop.accuracy import check_label, largest_label
from innerloop.descent import Gradient, Objective, descend, last, linear_grad, loop_grad
from innerloop.head_start import first_head, head_parts, into
from innerloop.norm import query_outputs
from innerloop.params import Params, chosen, lock_of, slots_of
from innerloop.recall import recalled
from innerloop.split import Parts, kind_of, look
from innerloop.tasks import Episodes, check_episodes, check_items, over_tasks, pick_chunk_size
from innerloop.trees import Tree, as_tree, each, joined, read_by

if TYPE_CHECKING:
    from innerloop.inner import InnerLoop


class Bound:
    """A model with an inner loop, ready for episodes: call it with them, see `innerloop.predict`.

    The parameters that adapt are chosen at once. How the module behaves is seen with the first task, and again where
    the model has changed between train and eval mode or the inputs are of another kind.
    """

    def __init__(self, model: nn.Module, inner: InnerLoop) -> None:
        self.model, self.inner, self._lock = model, inner, lock_of(model)
        with self._lock:
            self._choose()

    def _choose(self) -> None:
        model, inner = self.model, self.inner
        self.adapting = chosen(model, inner.adapt)
        self.head = None if inner.head_start == "learnt" else head_parts(model, inner.head, inner.head_start)
        if self.head and inner.head_start != "prototypes" and self.head[0] not in self.adapting:
            raise ValueError(f"head_start={inner.head_start!r} needs a head that adapts: add '{inner.head}.*' to adapt")
        of_head = [name for name in self.head or () if name]
        self.replaced = [*self.adapting, *(name for name in of_head if name not in self.adapting)]
        self._slots = slots_of(model, None, self.replaced)
        self._parts: dict[Any, Parts] = {}
        self._loops: set[Any] = set()  # kinds of inputs that vmap could not batch

    def __call__(self, episodes: Episodes, *, chunk_size: int | None = None, every_step: bool = False) -> Tree:
        """Query outputs, (k, t, q, w): k is steps + 1 with `every_step`, else 1."""
        episodes = check_episodes(episodes)
        size = pick_chunk_size(episodes, chunk_size)
        learns = bool(self.inner.steps or self.head)  # else the support set may be empty
        x, y = (each(lambda part: part[0], part) for part in (episodes[:2] if learns else episodes[2:]))
        kind, parts = self._parts_for(x, y)
        if kind in self._loops or parts.loops(torch.is_grad_enabled() and not self.inner.first_order):
            size = 1
        largest, way = largest_label(episodes.support_y), self._way(episodes.support_y)

        def one_task(support_x: Tree, support_y: Tree, query_x: Tree, *, looped: bool) -> Tree:
            support = parts.front(support_x) if learns else support_x
            steps = self._learn(parts, support, support_y, largest, way, looped=looped)
            query = query_outputs(parts.front, support_x, query_x, self.inner.statistics)

            def outputs(params: Params) -> Tree:
                def network(x: Tree) -> Tree:
                    return read_by(self.inner.loss, parts.back(params, x))

                return query_outputs(network, support, query, self.inner.statistics)

            return joined(torch.stack, [outputs(params) for params in (steps if every_step else [last(steps)])])

        result, batched = over_tasks(one_task, episodes[:3], size)
        if not batched:
            self._loops.add(kind)
        return each(lambda part: part.transpose(0, 1), result)

    def adapt(self, support_x: Tree, support_y: Tree) -> dict[str, Tensor]:
        """Learn one task, (s, *x) and (s,): the state dict of the adapted model."""
        support_x, support_y = as_tree(support_x), as_tree(support_y)
        check_items(support_x, support_y, "support")
        _, parts = self._parts_for(support_x, support_y)
        largest, way = largest_label(support_y), self._way(support_y)
        with torch.no_grad():
            learnt = last(self._learn(parts, parts.front(support_x), support_y, largest, way, looped=True))

        def kept(value: Any) -> Any:  # else extra state
            return new.get(id(value), value.detach().clone()) if isinstance(value, Tensor) else value

        with self._lock:
            new = {id(own[key]): learnt[name] for own, key, name in self._slots}  # under all names of a shared one
            return {name: kept(value) for name, value in self.model.state_dict(keep_vars=True).items()}

    def _learn(
        self, parts: Parts, support: Tree, support_y: Tree, largest: int, way: int, *, looped: bool
    ) -> Iterator[Params]:
        """The parameters after 0, 1, ..., n steps on the support set, which is given as the front left it."""
        inner, start = self.inner, self._start(parts, support, support_y, way)

        def objective(params: Params) -> Tensor:
            outputs = read_by(inner.loss, parts.back({**start, **params}, support))
            check_label(largest, outputs, inner.loss)
            return inner.loss(outputs, support_y)

        gradient: Callable[[Objective], Gradient] = loop_grad if looped else grad
        if parts.linear and inner.loss is F.cross_entropy and _plain(support, support_y):
            weight, bias = parts.linear
            if largest >= len(start[weight]):
                check_label(largest, support.new_empty(0, len(start[weight])), inner.loss)
            direct = linear_grad(support, support_y, weight, bias)
            gradient = lambda _: lambda params: direct({**start, **params})  # noqa: E731
        return descend(
            objective, start, inner.steps, parts.sizes, first_order=inner.first_order, clip=inner.clip,
            optimizer=inner.optimizer, gradient=gradient,
        )  # fmt: skip

    def _start(self, parts: Parts, support: Tree, support_y: Tree, way: int) -> Params:
        with self._lock:  # else another thread's parameters may stand there
            own = {name: place[key] for place, key, name in self._slots}
        if self.head is None:
            return own

        def features() -> Tensor:
            module = self.model.get_submodule(self.inner.head)
            with self._lock:  # else it may be another thread's
                return into(module, lambda x: parts.back(own, x), support, what=self.inner.head)

        apart = {name: p.view_as(p) for name, p in own.items()}  # a step knows no way from the body to the head's start
        return {**apart, **first_head(own, self.head, self.inner.head_start, way, support_y, features)}

    def _way(self, support_y: Tree) -> int:
        """How many outputs a head that starts anew gets; 0 where it starts as it is."""
        return 0 if self.head is None else int(support_y.max()) + 1

    def _parts_for(self, x: Tree, y: Tree) -> tuple[Any, Parts]:
        kind = kind_of(self.model, x)
        if kind not in self._parts:
            self._parts[kind] = look(self.model, self.inner, self.adapting, self.replaced, x, y)
        return kind, self._parts[kind]


def bound_to(model: nn.Module, inner: InnerLoop) -> Bound:
    """The model bound to the inner loop: as before, where neither has changed since."""
    return recalled(model, inner, lambda: Bound(model, inner))


def _plain(support: Tree, support_y: Tree) -> bool:
    """Whether the closed form of the head's gradient holds: features (s, f), labels (s,), no autocast."""
    return (
        isinstance(support, Tensor)
        and isinstance(support_y, Tensor)
        and (support.ndim, support_y.ndim, support_y.dtype) == (2, 1, torch.int64)
        and support.is_floating_point()
        and not torch.is_autocast_enabled(support.device.type)
    )
