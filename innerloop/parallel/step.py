"""One step of the outer loop as a function of its number alone, so that it can be recorded, split or stacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from innerloop.outer import meta_gradient
from innerloop.predictors import Predictor
from innerloop.tasks import Episodes

Measured = dict[str, Tensor]
"""What a step measured, by name, on the model's device: reading a value waits for it."""


class Stream(Protocol):
    """Batches of episodes by number, such as an `EpisodeStream`."""

    def at(self, index: Tensor) -> Episodes:
        """Batch `index`, a 0-dim int64 tensor on the device of the batch."""
        ...


class MetaGradient(Protocol):
    """`innerloop.outer.meta_gradient`, or one that gives the same by other means."""

    def __call__(
        self, model: nn.Module, episodes: Episodes, predictor: Predictor, *, chunk_size: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Put the gradient of the mean query loss into `.grad`; that loss, and the accuracy where there is one."""
        ...


class Step(Protocol):
    """One outer step by the number of its batch; it changes what `optimizer` and `buffers` hold, no more."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Over the parameters that are trained."""
        ...

    @property
    def buffers(self) -> list[Tensor]:
        """Tensors besides the parameters that a step may change."""
        ...

    def __call__(self, index: Tensor) -> Measured:
        """Take the step on batch `index`, a 0-dim int64 tensor on the model's device."""
        ...


@dataclass(frozen=True, eq=False)
class OuterStep:
    """Draw a batch, adapt to its tasks, differentiate through that, clip, update: `meta_train`'s step by number."""

    model: nn.Module
    stream: Stream
    predictor: Predictor
    optimizer: torch.optim.Optimizer
    clip: float | None = None  # each element of the meta-gradient is clipped to [-clip, clip]
    chunk_size: int | None = None  # tasks in memory at once, see `innerloop.predict`
    gradient: MetaGradient = field(default=meta_gradient)

    @property
    def buffers(self) -> list[Tensor]:
        """The model's buffers."""
        return list(self.model.buffers())

    def __call__(self, index: Tensor) -> Measured:
        """Loss and, for labels, accuracy on the query set, before the update."""
        self.optimizer.zero_grad()
        batch = self.stream.at(index)
        loss, accuracy = self.gradient(self.model, batch, self.predictor, chunk_size=self.chunk_size)
        if self.clip is not None:
            nn.utils.clip_grad_value_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return {"loss": loss} if accuracy is None else {"loss": loss, "accuracy": accuracy}


def trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of an optimiser, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[tuple[int, str], Tensor]]:
    """The tensors that an optimiser keeps for its parameters, each under its parameter's place and its own name."""
    for place, parameter in enumerate(trained(optimizer)):
        state: dict[str, Any] = optimizer.state.get(parameter, {})
        yield from (((place, name), value) for name, value in state.items() if isinstance(value, Tensor))


def number(index: int, optimizer: torch.optim.Optimizer) -> Tensor:
    """`index` where the parameters are, without waiting for a GPU."""
    return torch.full((), index, dtype=torch.int64, device=trained(optimizer)[0].device)
