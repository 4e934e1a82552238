"""When a run does what, and what it writes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """When a run does what."""

    iterations: int = 10_000
    """meta-training steps; 0 leaves the first weights as they are (random features)"""
    val_every: int = 500
    """iterations between validations, which choose the best checkpoint"""
    log_every: int = 10
    """iterations averaged into one line of metrics"""
    keep: int = 0
    """iterations between checkpoints that are kept for later analyses; 0 keeps none"""

    def __post_init__(self) -> None:
        for name, least in (("iterations", 0), ("keep", 0), ("val_every", 1), ("log_every", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} {'must be at least 1' if least else 'must not be negative'}, got {value}")


@dataclass(frozen=True)
class Logging:
    """What a run writes while it trains."""

    checkpoint_seconds: float = 30.0
    """seconds between checkpoints; a kill costs at most these"""
    tensorboard: bool = False
    """write TensorBoard events into the run's folder too (needs the extra `track`)"""


class Interrupted(Exception):
    """The run stopped on request, in a state that goes on."""
