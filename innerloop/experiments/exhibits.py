"""What a table or a figure of the paper is: what it measures, what the paper found, and what the paper claims.

Values alone: importing this trains nothing, draws nothing and touches no disk. A question without an answer yet raises
KeyError where a claim or a panel asks for it; `judge` and the report read that as "not enough runs".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from innerloop.experiments.questions import Accuracy, Measure
from innerloop.runs.config import Spec

if TYPE_CHECKING:
    from innerloop.paper.scales import Scale

Answer = Mapping[str, Any]
"""Of a measure; its keys are told in `runs.measures`."""
Place = tuple[str, str]
"""A row and a column of a table."""
Verdict = Literal["holds", "does not hold", "not enough runs"]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and what has to be true of our numbers for it to hold here."""

    sentence: str  # the paper's, with its place
    test: str  # in words, with its limits
    holds: Callable[[Any], bool]  # of a table: from means by place; of a figure: from its panels by title


def judge(claim: Claim, values: Any) -> Verdict:
    """Whether the claim holds for these values."""
    try:
        return "holds" if claim.holds(values) else "does not hold"
    except KeyError:
        return "not enough runs"


@dataclass(frozen=True)
class Cell:
    """The measures that one number of a table is read from, and how."""

    measures: tuple[Measure, ...]
    read: Callable[..., float]  # from their answers, one argument each, in the table's unit


def accuracy(run: Spec, *, frozen: int = 0, nil: bool = False, shot: int | None = None) -> Cell:
    """Test accuracy in %."""
    return Cell((Accuracy(run, frozen, nil, shot),), lambda answer: 100 * answer["accuracy"])


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str  # table1
    title: str
    about: str  # what is measured here, and how where the paper is silent
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    published: Mapping[Place, tuple[float, float | None]]  # the paper's mean and spread
    cell: Callable[[Scale, str, str, int], Cell | None]  # scale, row, column, repeat; None where there is none
    claims: tuple[Claim, ...]
    unit: str = "accuracy %"
    digits: int = 1
    column_digits: Mapping[str, int] = field(default_factory=dict)  # of columns that have others

    def measures(self, scale: Scale) -> list[Measure]:
        """All that it needs, without repetition."""
        cells = (
            self.cell(scale, row, column, repeat)
            for repeat in range(scale.seeds)
            for row in self.rows
            for column in self.columns
        )
        return list(dict.fromkeys(measure for cell in cells if cell for measure in cell.measures))


@dataclass(frozen=True)
class Series:
    """One line or cloud of points of a panel."""

    label: str  # also decides the colour, the same in all figures
    x: tuple[Any, ...]  # numbers, or names of layers
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()  # half the height of an error bar for every y


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `against` draws points, the line y = x and the fitted line."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["lines", "bars", "against"] = "lines"
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Stated:
    """A number that the paper states of a figure."""

    name: str
    number: float
    read: Callable[[Any], float]  # ours, from the panels by title
    digits: int = 1


@dataclass(frozen=True)
class Figure:
    """A figure of the paper."""

    name: str  # figure2
    title: str
    about: str
    published: str  # what the paper's figure shows, with the numbers that it states
    questions: Callable[[Scale], Mapping[Hashable, Measure]]  # under names of its own
    panels: Callable[[Mapping[Any, Answer]], tuple[Panel, ...]]  # from the answers there are, by the same names
    claims: tuple[Claim, ...]
    stated: tuple[Stated, ...] = ()

    def measures(self, scale: Scale) -> list[Measure]:
        """All that it needs, without repetition."""
        return list(dict.fromkeys(self.questions(scale).values()))


Artifact = Table | Figure


class Panels(dict[str, dict[str, Series]]):
    """The series of a figure by panel title and label, for its claims."""

    def __init__(self, panels: tuple[Panel, ...]) -> None:
        super().__init__({panel.title: {series.label: series for series in panel.series} for panel in panels})
