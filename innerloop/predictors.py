"""Predictors: from a model and episodes to query outputs. An `InnerLoop` is one; `NIL` has no inner loop at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.heads import into
from innerloop.inner import Loss
from innerloop.norm import Statistics, check_norms, check_statistics, query_outputs
from innerloop.params import children, is_chain, lock_of
from innerloop.split import check_seen
from innerloop.tasks import Episodes, check_episodes, over_tasks, pick_chunk_size
from innerloop.trees import Tree, each, run
from innerloop.watch import buffers_kept, tidy, watched


class BoundPredictor(Protocol):
    """A predictor with its model: from episodes to query outputs, (k, t, q, w)."""

    def __call__(self, episodes: Episodes, *, chunk_size: int | None = ..., every_step: bool = ...) -> Tree: ...


class Predictor(Protocol):
    """From a model and episodes to query outputs, (k, t, q, w): k is n + 1 with `every_step`, else 1.

    One with a method `bind(model)`, which returns a `BoundPredictor`, is bound once where many batches follow.
    """

    @property
    def loss(self) -> Loss:
        """Of the outputs of one task's query set; the meta-objective is its mean over tasks."""
        ...

    @property
    def statistics(self) -> Statistics:
        """Whose normalise the query set, see `innerloop.norm`."""
        ...

    def __call__(
        self, model: nn.Module, episodes: Episodes, *, chunk_size: int | None = ..., every_step: bool = ...
    ) -> Tree: ...


def bind(model: nn.Module, predictor: Predictor) -> BoundPredictor:
    """A model with a predictor: what has to be looked at once is looked at once, for all batches of episodes.

    >>> from innerloop import anil, models
    >>> bound = bind(models.mlp(2, 3), anil())
    >>> bound.adapting
    ['head.weight', 'head.bias']

    Raises:
        ValueError: these are no model and predictor, or a pattern of the inner loop matches nothing.
    """
    if not isinstance(model, nn.Module):
        hint = (
            ": the model comes first, then the episodes, then the predictor" if isinstance(predictor, nn.Module) else ""
        )
        raise ValueError(f"expected a torch.nn.Module, got a {type(model).__name__}{hint}")
    if not callable(predictor) or not hasattr(predictor, "loss"):
        name = getattr(predictor, "__name__", None)
        what = f"the function {name}: call it, innerloop.{name}()" if name else f"a {type(predictor).__name__}"
        raise ValueError(f"expected a predictor such as innerloop.maml(), got {what}")
    own: Callable[[nn.Module], BoundPredictor] | None = getattr(predictor, "bind", None)
    return partial(predictor, model) if own is None else own(model)


@dataclass(frozen=True)
class NIL:
    """No Inner Loop (Raghu et al. 2020, section 5.1): no head, cosine similarities weight the support labels.

    The outputs are log-probabilities: the softmax of the similarities to the support features is summed over the
    labels, as in Vinyals et al. (2016). Any shot; used in training, it is differentiable in the features.

    Args:
        way: the number of outputs; None: the largest support label + 1, which waits for a GPU.
        temperature: of the softmax; the paper states none.
        head: the module to leave out.
        loss: of the outer loop.
        statistics: whose normalise the query set, see `innerloop.norm`.
    """

    way: int | None = None
    temperature: float = 1.0
    head: str = "head"
    loss: Loss = F.cross_entropy
    statistics: Statistics = "query"

    def __post_init__(self) -> None:
        check_statistics(self.statistics)
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be a finite number above 0, got {self.temperature}")
        check_way(self.way)

    def bind(self, model: nn.Module) -> BoundPredictor:
        """See `innerloop.bind`."""
        return ByFeatures(model, self)

    def __call__(
        self, model: nn.Module, episodes: Episodes, *, chunk_size: int | None = None, every_step: bool = False
    ) -> Tensor:
        """Query outputs, (1, t, q, w): there is no step to take."""
        return ByFeatures(model, self)(episodes, chunk_size=chunk_size, every_step=every_step)

    def answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """From features (s, f) and (q, f) and one-hot labels (s, w) to log-probabilities (q, w)."""
        support, query = F.normalize(support, dim=1), F.normalize(query, dim=1)
        weights = (query @ support.T / self.temperature).softmax(1)
        return (weights @ targets).clamp_min(1e-30).log()


def check_way(way: object) -> None:
    """Refuse what is no number of outputs."""
    if way is not None and (isinstance(way, bool) or not isinstance(way, int) or way < 1):
        raise ValueError(f"way must be a whole number from 1, or None, got {way!r}")


class Comparer(Protocol):
    """A predictor that takes no step and sees features alone."""

    @property
    def way(self) -> int | None:
        """Of a task; None takes the largest support label + 1."""
        ...

    @property
    def head(self) -> str:
        """The module to leave out."""
        ...

    @property
    def statistics(self) -> Statistics:
        """Whose normalise the query set."""
        ...

    def answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """For one task, from features (s, f) and (q, f) and one-hot labels (s, w) to outputs (q, w)."""
        ...


class ByFeatures:
    """A model with a predictor that compares features, bound: from episodes to query outputs, (1, t, q, w)."""

    def __init__(self, model: nn.Module, rule: Comparer) -> None:
        self.model, self.rule = model, rule
        self.network = features(model, rule.head)
        self._looked: set[Any] = set()
        self._batched = True

    def __call__(
        self,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,  # noqa: ARG002  the signature of a predictor
    ) -> Tensor:
        """See `Predictor`."""
        episodes, rule = check_episodes(episodes), self.rule
        self._look(each(lambda x: x[0], episodes.support_x))
        size = pick_chunk_size(episodes, chunk_size) if self._batched else 1
        way = rule.way or int(episodes.support_y.max()) + 1
        if episodes.support_y.device.type == "cpu" and int(episodes.support_y.max()) >= way:
            raise ValueError(f"label {int(episodes.support_y.max())} does not fit {way} ways: raise `way`")

        def one_task(support_x: Tree, support_y: Tensor, query_x: Tree, *, looped: bool) -> Tensor:  # noqa: ARG001
            support = self.network(support_x).flatten(1)
            query = query_outputs(self.network, support_x, query_x, rule.statistics).flatten(1)
            return rule.answer(support, F.one_hot(support_y.long(), way).to(support.dtype), query)

        result, batched = over_tasks(one_task, episodes[:3], size)
        self._batched &= batched
        return result.unsqueeze(0)

    def _look(self, x: Tree) -> None:
        """Refuse norms that would give wrong numbers, once for each mode of the model."""
        modes = tuple(module.training for module in self.model.modules())
        if modes not in self._looked:
            check_norms(self.model, self.rule.statistics)
            with buffers_kept(self.model):
                seen = watched(partial(self.network, x))
            check_seen(seen, self.rule.statistics)
            self._batched &= not seen.later
            self._looked.add(modes)


def features(model: nn.Module, head: str = "head") -> Callable[[Tree], Tensor]:
    """The model without its head: what the module called `head` gets as its input. It leaves no trace in the model.

    Raises:
        ValueError: the model has no such module.
    """
    modules = dict(model.named_modules())
    if not head or head not in modules:
        raise ValueError(f"the model has no module {head!r} to leave out. It has: {', '.join(filter(None, modules))}.")
    if is_chain(model) and children(model)[-1][0] == head:
        body = nn.Sequential(OrderedDict(children(model)[:-1]))
        call: Callable[[Tree], Tensor] = partial(run, body)
    else:
        call = partial(into, modules[head], partial(run, model), what=head)

    def until_head(x: Tree) -> Tensor:
        with lock_of(model):
            return kept(each(torch.clone, x))  # a layer may write into its input

    kept = tidy(call, list(model.modules()))
    return until_head
