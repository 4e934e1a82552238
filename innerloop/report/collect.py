"""What there is of an exhibit at a scale: its numbers, panels, verdicts. Reads answers, makes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal

from innerloop.experiments.answers import Kept
from innerloop.experiments.exhibits import Cell, Exhibit, Figure, Panel, Panels, Place, Table, Verdict, judge
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale

Find = Callable[[Question], Kept[Any] | None]
"""The answer to a question; None where there is none yet."""
Answers = Mapping[Question, Any]
Spread = Literal["sd", "interval"]
"""sd: sample standard deviation over repeats; interval: 95 % interval of one repeat over its episodes."""

_OPEN: Verdict = "not enough runs"


@dataclass(frozen=True)
class Entry:
    """One number of a table, in the table's unit."""

    mean: float | None = None  # over repeats; None: not measured yet
    spread: float | None = None
    kind: Spread | None = None  # what the spread is
    repeats: int = 0  # that differ in what they ask
    published: tuple[float, float | None] | None = None  # the paper's mean and spread
    asked: bool = True  # False where there is nothing to measure at this place

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None or self.published is None else self.mean - self.published[0]


@dataclass(frozen=True)
class Result:
    """An exhibit at a scale, as far as its questions are answered."""

    exhibit: Exhibit
    scale: Scale
    needed: int  # questions
    found: int  # of them
    entries: Mapping[Place, Entry]  # of a table
    panels: tuple[Panel, ...]  # of a figure; none where an answer that it cannot do without is missing
    values: Any  # what its claims are judged on: means by place of a table, `Panels` of a figure
    verdicts: tuple[Verdict, ...]  # in the order of the exhibit's claims; none where the scale is not judged
    whole: int  # repeats of a table that are there in all of their places: the claims are judged on them
    seeds: tuple[int, ...]  # of the networks whose answers are there
    permuted: Mapping[str, Mapping[str, float]]  # "cca" and "cka" by layer of different images: what chance scores
    devices: tuple[str, ...]  # on which they were found
    notes: tuple[str, ...]  # what the open questions need


def collect(exhibit: Exhibit, scale: Scale, find: Find, missing: Mapping[Question, str]) -> Result:
    """All that can be shown of the exhibit now; `missing` tells what a question without an answer needs."""
    questions = exhibit.questions(scale)
    kept = {question: found for question in questions if (found := find(question)) is not None}
    answers = {question: found.answer for question, found in kept.items()}
    entries: dict[Place, Entry] = {}
    panels: tuple[Panel, ...] = ()
    whole = 0
    if isinstance(exhibit, Table):
        entries = {place: entry(exhibit, scale, place, answers) for place in exhibit.places}
        values, whole = means_of_whole_repeats(exhibit, scale, answers)
    else:
        panels = panels_of(exhibit, scale, answers)
        values = Panels(panels)
    judged = exhibit.claims if scale.judged else ()
    there = isinstance(exhibit, Table) or bool(panels)
    return Result(
        exhibit,
        scale,
        needed=len(questions),
        found=len(answers),
        entries=entries,
        panels=panels,
        values=values,
        verdicts=tuple(judge(claim, values) if there else _OPEN for claim in judged),
        whole=whole,
        seeds=tuple(sorted({run.seed for question in answers for run in question.runs})),
        permuted=_permuted([each for answer in answers.values() if (each := getattr(answer, "permuted", None))]),
        devices=tuple(sorted({found.device for found in kept.values()})),
        notes=tuple(dict.fromkeys(missing[each] for each in questions if each not in answers and each in missing)),
    )


def _permuted(answers: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over answers, of every kind and layer that they have."""
    found: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        for kind, by_layer in answer.items():
            for layer, value in by_layer.items():
                found.setdefault(kind, {}).setdefault(layer, []).append(value)
    return {kind: {layer: fmean(each) for layer, each in by_layer.items()} for kind, by_layer in found.items()}


def means_of_whole_repeats(table: Table, scale: Scale, answers: Answers) -> tuple[dict[Place, float], int]:
    """Means over the repeats that are there in all of their places, so that a claim compares like with like.

    And the number of these repeats.
    """
    values: dict[Place, list[float]] = {}
    for repeat in range(scale.seeds):
        asked = {place: table.cell(scale, *place, repeat) for place in table.places}
        found = {place: _value(cell, answers) for place, cell in asked.items() if cell}
        whole = {place: value for place, value in found.items() if value is not None}
        if len(whole) == len(found):
            for place, value in whole.items():
                values.setdefault(place, []).append(value)
    return {place: fmean(each) for place, each in values.items()}, max(map(len, values.values()), default=0)


def _value(cell: Cell, answers: Answers) -> float | None:
    try:
        return cell.read(*(answers[question] for question in cell.questions))
    except KeyError:  # not answered, or not so that it can be compared
        return None


def entry(table: Table, scale: Scale, place: Place, answers: Answers) -> Entry:
    """The mean over the repeats that are there. Repeats that ask the same (no seed matters) count once."""
    asked = (table.cell(scale, *place, repeat) for repeat in range(scale.seeds))
    cells = list({cell.questions: cell for cell in asked if cell}.values())
    published = table.published.get(place)
    there = {cell: value for cell in cells if (value := _value(cell, answers)) is not None}
    values = list(there.values())
    if not values:
        return Entry(published=published, asked=bool(cells))
    if len(values) > 1:
        return Entry(fmean(values), stdev(values), "sd", len(values), published)
    only = next(iter(there))
    interval = only.interval(*(answers[question] for question in only.questions))
    return Entry(values[0], interval, None if interval is None else "interval", 1, published)


def panels_of(figure: Figure, scale: Scale, answers: Answers) -> tuple[Panel, ...]:
    """The panels and series that have a point; none where the figure misses an answer."""
    asked = figure.asks(scale)
    try:
        panels = figure.panels({name: answers[each] for name, each in asked.items() if each in answers})
    except KeyError:
        return ()
    filled = (replace(panel, series=tuple(series for series in panel.series if series.x)) for panel in panels)
    return tuple(panel for panel in filled if panel.series)
