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
        network = features(model, self.head)
        chunk_size = pick_chunk_size(episodes, chunk_size)
        check_norms(model, (), self.statistics, vmapped=chunk_size > 1, first_order=False)
        way = self.way or int(episodes.support_y.max()) + 1
        if episodes.support_y.device.type == "cpu" and int(episodes.support_y.max()) >= way:
            raise ValueError(f"label {int(episodes.support_y.max())} does not fit {way} ways: raise `way`")

        def one_task(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
            support = F.normalize(network(support_x).flatten(1), dim=1)
            query = F.normalize(query_outputs(network, support_x, query_x, self.statistics).flatten(1), dim=1)
            weights = (query @ support.T / self.temperature).softmax(1)
            return (weights @ F.one_hot(support_y, way).to(weights.dtype)).clamp_min(1e-30).log()

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
