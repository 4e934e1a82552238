"""Predictors: from a model and episodes to query outputs. An `InnerLoop` is one; `NIL` has no inner loop at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.inner import Loss
from innerloop.norm import Statistics, check_norms, query_outputs
from innerloop.params import children, is_chain
from innerloop.tasks import Episodes, over_tasks, pick_chunk_size


class Predictor(Protocol):
    """From a model and episodes to query outputs, (k, t, q, w): k is n + 1 with `every_step`, else 1."""

    @property
    def loss(self) -> Loss:
        """Of the outputs of one task's query set; the meta-objective is its mean over tasks."""
        ...

    @property
    def statistics(self) -> Statistics:
        """Whose normalise the query set, see `innerloop.norm`."""
        ...

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = ...,
        every_step: bool = ...,
    ) -> Tensor: ...


@dataclass(frozen=True)
class NIL:
    """No Inner Loop (Raghu et al. 2020, section 5.1): no head, cosine similarities weight the support labels.

    The outputs are log-probabilities: the softmax of the similarities to the support features is summed over the
    labels, as in Vinyals et al. (2016). Any shot; used in training, it is differentiable in the features.
    """

    way: int | None = None  # None: the largest support label + 1, which waits for a GPU
    temperature: float = 1.0  # of the softmax; the paper states none
    head: str = "head"  # the module to leave out
    loss: Loss = F.cross_entropy  # of the outer loop
    statistics: Statistics = "query"  # whose normalise the query set, see `innerloop.norm`

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,  # noqa: ARG002  the signature of a predictor
    ) -> Tensor:
        """Query outputs, (1, t, q, w): there is no step to take."""
        return by_features(model, episodes, self, self._answer, chunk_size)

    def _answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
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
    network, labels = features(model, predictor.head), episodes.support_y
    chunk_size = pick_chunk_size(episodes, chunk_size)
    check_norms(model, (), predictor.statistics, vmapped=chunk_size > 1, first_order=False)
    way = predictor.way or int(labels.max()) + 1
    if labels.device.type == "cpu" and int(labels.max()) >= way:
        raise ValueError(f"label {int(labels.max())} does not fit {way} ways: raise `way`")

    def one_task(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        support = network(support_x).flatten(1)
        query = query_outputs(network, support_x, query_x, predictor.statistics).flatten(1)
        return answer(support, F.one_hot(support_y, way).to(support.dtype), query)

    return over_tasks(one_task, episodes[:3], chunk_size).unsqueeze(0)


def features(model: nn.Module, head: str = "head") -> Callable[[Tensor], Tensor]:
    """The model without its head: what the module called `head` gets as its input.

    Raises:
        ValueError: the model has no such module.
    """
    modules = dict(model.named_modules())
    if not head or head not in modules:
        raise ValueError(f"the model has no module {head!r} to leave out. It has: {', '.join(filter(None, modules))}.")
    if is_chain(model) and children(model)[-1][0] == head:
        return nn.Sequential(OrderedDict(children(model)[:-1]))

    def until_head(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = modules[head].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            model(x)
        finally:
            hook.remove()
        if not seen:
            raise ValueError(f"the model never calls its module {head!r}; name the head that it calls")
        return seen[0]

    return until_head
