"""What there is of an artifact at a scale: numbers beside the paper's, panels, verdicts. Reads answers, makes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from innerloop.experiments.exhibits import Answer, Artifact, Cell, Figure, Panel, Panels, Place, Table, Verdict, judge
from innerloop.experiments.questions import Measure
from innerloop.paper.scales import Scale

Find = Callable[[Measure], Answer | None]
"""The answer to a question; None where it is not measured yet."""
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
    """An artifact at a scale, as far as it is measured."""

    artifact: Artifact
    scale: Scale
    needed: int  # measures
    found: int  # of them
    entries: Mapping[Place, Entry]  # of a table
    panels: tuple[Panel, ...]  # of a figure; none where an answer that it cannot do without is missing
    verdicts: tuple[Verdict, ...]  # in the order of the artifact's claims
    whole: int  # repeats of a table that are there in all of their places: the claims are judged on them
    seeds: tuple[int, ...]  # of the networks whose answers are there
    permuted: Mapping[str, Mapping[str, float]]  # "cca" and "cka" by layer between different images: what chance scores
    devices: tuple[str, ...]  # on which they were measured, where the answers tell
    notes: tuple[str, ...]  # what the missing measures need


def collect(artifact: Artifact, scale: Scale, find: Find, missing: Mapping[Measure, str]) -> Result:
    """All that can be shown of the artifact now; `missing` tells what a measure without an answer needs."""
    measures = artifact.measures(scale)
    answers = {measure: answer for measure in measures if (answer := find(measure)) is not None}
    entries: dict[Place, Entry] = {}
    panels: tuple[Panel, ...] = ()
    verdicts: list[Verdict]
    whole = 0
    if isinstance(artifact, Table):
        entries = {(row, column): entry(artifact, scale, row, column, answers) for row, column in places(artifact)}
        means, whole = means_of_whole_repeats(artifact, scale, answers)
        verdicts = [judge(claim, means) for claim in artifact.claims]
    else:
        panels = panels_of(artifact, scale, answers)
        values = Panels(panels)
        verdicts = [judge(claim, values) if panels else _OPEN for claim in artifact.claims]
    return Result(
        artifact,
        scale,
        needed=len(measures),
        found=len(answers),
        entries=entries,
        panels=panels,
        verdicts=tuple(verdicts),
        whole=whole,
        seeds=tuple(sorted({seed for measure in answers for seed in seeds_of(measure)})),
        permuted=_permuted([answer["permuted"] for answer in answers.values() if "permuted" in answer]),
        devices=tuple(sorted({str(answer["device"]) for answer in answers.values() if "device" in answer})),
        notes=tuple(dict.fromkeys(missing[each] for each in measures if each not in answers and each in missing)),
    )


def _permuted(answers: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over answers, of every kind and layer that they have."""
    found: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        for kind, by_layer in answer.items():
            for layer, value in by_layer.items():
                found.setdefault(kind, {}).setdefault(layer, []).append(value)
    return {kind: {layer: fmean(each) for layer, each in by_layer.items()} for kind, by_layer in found.items()}


def places(table: Table) -> list[Place]:
    """Row after row."""
    return [(row, column) for row in table.rows for column in table.columns]


def means_of_whole_repeats(
    table: Table, scale: Scale, answers: Mapping[Measure, Answer]
) -> tuple[dict[Place, float], int]:
    """Means over the repeats that are there in all of their places, so that a claim compares like with like.

    And the number of these repeats.
    """
    values: dict[Place, list[float]] = {}
    for repeat in range(scale.seeds):
        asked = {place: table.cell(scale, *place, repeat) for place in places(table)}
        found = {place: _value(cell, answers) for place, cell in asked.items() if cell}
        whole = {place: value for place, value in found.items() if value is not None}
        if len(whole) == len(found):
            for place, value in whole.items():
                values.setdefault(place, []).append(value)
    return {place: fmean(each) for place, each in values.items()}, max(map(len, values.values()), default=0)


def _value(cell: Cell, answers: Mapping[Measure, Answer]) -> float | None:
    try:
        return cell.read(*(answers[measure] for measure in cell.measures))
    except KeyError:  # not measured, or not so that it can be compared
        return None


def entry(table: Table, scale: Scale, row: str, column: str, answers: Mapping[Measure, Answer]) -> Entry:
    """The mean over the repeats that are measured. Repeats that ask the same (no seed matters) count once."""
    asked = (table.cell(scale, row, column, repeat) for repeat in range(scale.seeds))
    cells = list({cell.measures: cell for cell in asked if cell}.values())
    published = table.published.get((row, column))
    there = {cell: value for cell in cells if (value := _value(cell, answers)) is not None}
    values = list(there.values())
    if not values:
        return Entry(published=published, asked=bool(cells))
    if len(values) > 1:
        return Entry(fmean(values), stdev(values), "sd", len(values), published)
    interval = interval_of(next(iter(there)), answers)
    return Entry(values[0], interval, None if interval is None else "interval", 1, published)


def interval_of(cell: Cell, answers: Mapping[Measure, Answer]) -> float | None:
    """The 95 % interval of an accuracy in the cell's unit: how far it moves where the accuracy moves by it."""
    answer = answers[cell.measures[0]]
    if len(cell.measures) > 1 or "interval" not in answer or "accuracy" not in answer:
        return None
    higher = {**answer, "accuracy": answer["accuracy"] + answer["interval"]}
    return abs(cell.read(higher) - cell.read(answer))


def panels_of(figure: Figure, scale: Scale, answers: Mapping[Measure, Answer]) -> tuple[Panel, ...]:
    """The panels and series that have a point; none where the figure misses an answer."""
    questions = figure.questions(scale)
    try:
        panels = figure.panels({name: answers[each] for name, each in questions.items() if each in answers})
    except KeyError:
        return ()
    filled = (replace(panel, series=tuple(series for series in panel.series if series.x)) for panel in panels)
    return tuple(panel for panel in filled if panel.series)


def seeds_of(measure: Measure) -> set[int]:
    """Of the networks that a measure is about; none where it does not depend on their weights."""
    return {run.seed for run in measure.runs}
