"""What the trainer asks of whatever is trained: a step, a validation, a test, and its state as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class Validation(NamedTuple):
    """How the network does now."""

    score: float  # the higher, the better: it chooses the best checkpoint
    numbers: dict[str, float | None]  # as metrics.jsonl and the result tell it; None is not known


class Problem(Protocol):
    """Something to train. The trainer knows no image and no accuracy: all of that is in here.

    Whatever draws random numbers is seeded when a problem is made, and its generator is part of `state`, so that a run
    that goes on after a kill ends in the same bits.
    """

    @property
    def title(self) -> str:
        """What the progress bar and messages call it."""
        ...

    @property
    def network(self) -> nn.Module:
        """Its weights are what checkpoints hold for others: best.safetensors, at-N.safetensors."""
        ...

    @property
    def remedy(self) -> str:
        """What to try where a number is not finite, such as: try a lower --lr."""
        ...

    def step(self, number: int) -> Mapping[str, Tensor]:
        """One outer step, counted from 1; what it measured, 0-dim on any device, under the same names each time."""
        ...

    def validate(self) -> Validation | None:
        """How good the network is on what it was not trained on; None where there is nothing to choose by."""
        ...

    def test(self) -> dict[str, Any]:
        """With the chosen weights in `network`: what result.json holds under "test"."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs besides the network's weights: moments of the optimiser, generators."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; the network's weights are back already."""
        ...

    def metadata(self) -> dict[str, Any]:
        """JSON that travels in every checkpoint, such as settings, shapes and classes."""
        ...
