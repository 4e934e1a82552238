"""What a study shows: tables, figures, and what is claimed of them.

Values alone: importing this trains nothing, draws nothing and touches no disk. An answer that is not there yet raises
KeyError where a claim or a panel reads it; `judge` and the report take that as "not enough runs".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from innerloop.experiments.few_shot import Accuracy
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.runs.config import Spec

Place = tuple[str, str]
"""A row and a column of a table."""
Verdict = Literal["holds", "does not hold", "not enough runs"]


@dataclass(frozen=True)
class Claim:
    """A sentence, and what has to be true of the numbers for it to hold."""

    sentence: str  # of a paper, with its place there, or a hypothesis
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
    """The questions that one number of a table is read from, and how."""

    questions: tuple[Question, ...]
    read: Callable[..., float]  # from their answers, one argument each, in the table's unit
    interval: Callable[..., float | None] = lambda *_: None  # likewise: half the 95 % interval of one repeat, if known


def accuracy(run: Spec, *, frozen: int = 0, nil: bool = False, shot: int | None = None) -> Cell:
    """Test accuracy in %: of a network with its first layers `frozen` in the test, or with NIL for its inner loop."""
    return Cell(
        (Accuracy(run, frozen, nil, shot),),
        lambda answer: 100 * answer.accuracy,
        lambda answer: None if answer.interval is None else 100 * answer.interval,
    )


@dataclass(frozen=True)
class Table:
    """Rows and columns of numbers."""

    name: str  # table1
    title: str
    about: str  # what is measured, and how
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cell: Callable[[Scale, str, str, int], Cell | None]  # scale, row, column, repeat; None where there is none
    claims: tuple[Claim, ...] = ()
    published: Mapping[Place, tuple[float, float | None]] = field(default_factory=dict)  # a paper's mean and spread
    unit: str = "accuracy %"
    digits: int = 1
    column_digits: Mapping[str, int] = field(default_factory=dict)  # of columns that have others
    unscaled: bool = False  # whether it asks the same at all scales that are judged

    @property
    def places(self) -> list[Place]:
        """Row after row."""
        return list(product(self.rows, self.columns))

    def questions(self, scale: Scale) -> list[Question]:
        """All that it asks, without repetition."""
        cells = (self.cell(scale, *place, repeat) for repeat in range(scale.seeds) for place in self.places)
        return list(dict.fromkeys(question for cell in cells if cell for question in cell.questions))


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
    """A number that a paper states of a figure."""

    name: str
    number: float
    read: Callable[[Any], float]  # ours, from the panels by title
    digits: int = 1


@dataclass(frozen=True)
class Figure:
    """Panels of lines, bars or points."""

    name: str  # figure2
    title: str
    about: str  # what is measured, and how
    asks: Callable[[Scale], Mapping[Hashable, Question]]  # questions under names of its own
    panels: Callable[[Mapping[Any, Any]], tuple[Panel, ...]]  # from the answers there are, by the same names
    claims: tuple[Claim, ...] = ()
    published: str = ""  # what a paper's figure shows, with the numbers that it states
    stated: tuple[Stated, ...] = ()

    def questions(self, scale: Scale) -> list[Question]:
        """All that it asks, without repetition."""
        return list(dict.fromkeys(self.asks(scale).values()))


Exhibit = Table | Figure


class Panels(dict[str, dict[str, Series]]):
    """The series of a figure by panel title and label, for its claims."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        super().__init__({panel.title: {series.label: series for series in panel.series} for panel in panels})
