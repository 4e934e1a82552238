"""What can be measured on trained networks, as frozen values: the questions; `runs.measure` finds the answers.

A measure names the runs that it needs by their settings, so tables and figures that ask for the same run, or the same
measure, share it. An answer is a dict that JSON can hold.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from innerloop.runs.config import Spec
from innerloop.runs.settings import digest


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy: {"accuracy", "interval", "episodes", "statistics"}, in fractions."""

    run: Spec
    frozen: int = 0  # layers, from the first, that do not adapt in the test
    nil: bool = False  # test with NIL instead of the run's own inner loop
    shot: int | None = None  # support images a class, where the test has others than the training
    at: int | None = None  # iterations of training, instead of the checkpoint that validation chose
    episodes: int | None = None  # of the test, where it has others than the run's own

    @property
    def runs(self) -> tuple[Spec, ...]:
        """What must be trained."""
        return (self.run,)


@dataclass(frozen=True)
class Change:
    """How far the inner loop moves each layer: {"cca", "cka", "distance", "points"}, each a dict by layer.

    Similarities of the layer's outputs before and after adaptation, and the Euclidean distance of its weights; means
    over tasks. {"permuted"} has "cca" and "cka" between different images.
    """

    run: Spec
    episodes: int
    at: int | None = None  # iterations of training, 0 for the first weights; None for what validation chose
    query: int = 15  # images a class on which layers are compared

    @property
    def runs(self) -> tuple[Spec, ...]:
        """What must be trained."""
        return (self.run,)


@dataclass(frozen=True)
class Resemblance:
    """How alike two networks see the same tasks: {"cca", "cka"}, each {"pre-pre", ...} of a dict by layer.

    Besides, {"points"} by layer, and {"permuted"} as `Change` has it.
    "pre-post" is the first network before, the second after adaptation to the task; where the two have no inner loop
    in common (ANIL and MAML, or one without any), "pre-pre" alone is there, and not for the head.
    """

    first: Spec
    second: Spec
    episodes: int
    query: int = 15  # images a class on which layers are compared

    @property
    def runs(self) -> tuple[Spec, ...]:
        """What must be trained."""
        return (self.first, self.second)


@dataclass(frozen=True)
class Curves:
    """Training curves: {"iteration", "loss", "accuracy"} and {"val_iteration", "val_accuracy"}, lists."""

    run: Spec

    @property
    def runs(self) -> tuple[Spec, ...]:
        """What must be trained."""
        return (self.run,)


@dataclass(frozen=True)
class Timing:
    """Seconds for one task and one query image a class: {"mean", "median", "batches"}; needs no trained network."""

    run: Spec
    what: Literal["training", "inference"]
    batches: int

    @property
    def runs(self) -> tuple[Spec, ...]:
        """Nothing: time does not depend on the weights."""
        return ()


Measure = Accuracy | Change | Resemblance | Curves | Timing


def subject(measure: Measure) -> Spec:
    """The settings of the network that a measure is about, or of its first."""
    return measure.first if isinstance(measure, Resemblance) else measure.run


def as_json(measure: Measure) -> dict[str, Any]:
    """The question as JSON, its runs by what differs from the defaults."""
    values = {field.name: getattr(measure, field.name) for field in fields(measure)}
    plain = {name: value.as_json() if isinstance(value, Spec) else value for name, value in values.items()}
    return {"kind": type(measure).__name__, **plain}


def name_of(measure: Measure) -> str:
    """Such as accuracy-0123abcd: what the file with the answer is called."""
    return f"{type(measure).__name__.lower()}-{digest(as_json(measure))}"
