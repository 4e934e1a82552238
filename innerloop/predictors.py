"""Predictors: from a model and episodes to query outputs. An `InnerLoop` is one; `NIL` has no inner loop at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.head_start import into
from innerloop.inner import Loss
from innerloop.norm import check_norms, check_statistics, query_outputs
from innerloop.params import children, is_chain, lock_of
from innerloop.recall import in_transform, recalled, waiting
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
        if self.way is not None and (isinstance(self.way, bool) or not isinstance(self.way, int) or self.way < 1):
            raise ValueError(f"way must be a whole number from 1, or None, got {self.way!r}")

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,  # noqa: ARG002  the signature of a predictor
    ) -> Tensor:
        """Query outputs, (1, t, q, w): there is no step to take."""
        return by_features(model, episodes, self, self.answer, chunk_size)

    def answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """From features (s, f) and (q, f) and one-hot targets (s, w) to log-probabilities (q, w)."""
        support, query = F.normalize(support, dim=1), F.normalize(query, dim=1)
        weights = (query @ support.T / self.temperature).softmax(1)
        return (weights @ targets).clamp_min(1e-30).log()


class Comparer(Protocol):
    """What `by_features` has to know of a predictor that compares features."""

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


def by_features(
    model: nn.Module,
    episodes: Episodes,
    predictor: Comparer,
    answer: Callable[[Tensor, Tensor, Tensor], Tensor],
    chunk_size: int | None = None,
) -> Tensor:
    """Query outputs, (1, t, q, w), of a predictor that takes no step and sees features alone.

    Args:
        answer: for one task, from features (s, f), one-hot labels (s, w) and features (q, f) to outputs (q, w).

    Raises:
        ValueError: a label does not fit `way`, a class has no support items, or the model has no such head.
    """
    episodes = check_episodes(episodes)
    labels = episodes.support_y
    body = recalled(model, predictor, lambda: _Body(model, predictor))
    body.look(each(lambda x: x[0], episodes.support_x))
    size = pick_chunk_size(episodes, chunk_size) if body.batched else 1
    way = predictor.way or int(labels.max()) + 1
    if labels.device.type == "cpu" and int(labels.max()) >= way:
        raise ValueError(f"label {int(labels.max())} does not fit {way} ways: raise `way`")

    def one_task(support_x: Tree, support_y: Tensor, query_x: Tree, *, looped: bool) -> Tensor:  # noqa: ARG001
        support = body.network(support_x).flatten(1)
        query = query_outputs(body.network, support_x, query_x, predictor.statistics).flatten(1)
        return answer(support, F.one_hot(support_y.long(), way).to(support.dtype), query)

    result, batched = over_tasks(one_task, episodes[:3], size)
    body.batched &= batched
    return result.unsqueeze(0)


class _Body:
    """A model without its head, and whether vmap can batch it."""

    def __init__(self, model: nn.Module, predictor: Comparer) -> None:
        check_norms(model, predictor.statistics)
        self.model: nn.Module = model
        self.statistics: Statistics = predictor.statistics
        self.network = features(model, predictor.head)
        self.batched, self._looked = True, in_transform()

    def look(self, x: Tree) -> None:
        """Refuse norms that would give wrong numbers, once."""
        if not self._looked:
            with buffers_kept(self.model), waiting():
                seen = watched(partial(self.network, x))
            check_seen(seen, self.statistics)
            self.batched &= not seen.later
            self._looked = True


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

    kept = tidy(call, list(model.modules()), model)
    return until_head
