"""A study as one HTML page that needs nothing else, and as Markdown with its figures beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study
from innerloop.report import format as words
from innerloop.report.collect import Find, Result, collect
from innerloop.report.plot import svg
from innerloop.report.render import rendered
from innerloop.runs.checkpoint import write_whole

_NONE: Mapping[Question, str] = MappingProxyType({})


@dataclass(frozen=True)
class Page:
    """What the templates show: rows are exhibits, with a result for every scale."""

    study: Study
    scales: tuple[Scale, ...]
    rows: tuple[tuple[Result, ...], ...]

    @property
    def made(self) -> list[tuple[Result, ...]]:
        """The exhibits of which there is something, with what there is."""
        found = (tuple(result for result in row if result.found) for row in self.rows)
        return [row for row in found if row]

    @property
    def undone(self) -> list[Result]:
        """What has no answer yet."""
        return [result for row in self.rows for result in row if not result.found]

    @property
    def judged(self) -> list[int]:
        """The scales that verdicts are given at, by their places."""
        return [i for i, scale in enumerate(self.scales) if scale.judged]

    def at(self, i: int) -> list[Result]:
        """Everything at a scale."""
        return [row[i] for row in self.rows]

    @property
    def found(self) -> Scale | None:
        """The largest scale at which the study's question has an answer."""
        answered = [scale for scale in self.scales if self.finding(scale)]
        return answered[-1] if answered else None

    def finding(self, scale: Scale) -> str:
        """What was found at a scale, in a sentence; empty if that cannot be said yet."""
        if self.study.finds is None or not scale.judged:
            return ""
        results = self.at(self.scales.index(scale))
        try:
            return self.study.finds({result.exhibit.name: result.values for result in results if result.found})
        except KeyError:
            return ""


@dataclass(frozen=True)
class Report:
    """What there is to read."""

    html: str
    markdown: str
    figures: Mapping[str, bytes]  # SVG files by name, as the Markdown shows them


def write(report: Report, folder: Path) -> Path:
    """Put index.html, report.md and figures/*.svg there; the page's path.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    for name, picture in report.figures.items():
        write_whole(folder / "figures" / name, picture)
    write_whole(folder / "report.md", report.markdown.encode())
    write_whole(folder / "index.html", report.html.encode())
    return folder / "index.html"


def compose(
    study: Study, find: Find, scales: tuple[Scale, ...] | None = None, missing: Mapping[Question, str] = _NONE
) -> Report:
    """Everything of a study that `find` has answers for, at its scales or those given.

    `missing` says what a question without an answer needs, such as "needs mini-ImageNet: --mini-imagenet PATH".
    """
    find, scales = cache(find), study.scales if scales is None else scales
    rows = [[collect(exhibit, scale, find, missing) for scale in scales] for exhibit in study.exhibits]
    begun = [i for i in range(len(scales)) if any(row[i].found for row in rows)]
    shown = begun or range(len(scales))  # a scale without a single answer would only say so in every place
    page = Page(study, tuple(scales[i] for i in shown), tuple(tuple(row[i] for i in shown) for row in rows))
    drawn = [result for row in page.made for result in row if result.panels]
    figures = {f"{words.anchor(each)}.svg": svg(each.panels, words.heading(each.exhibit)) for each in drawn}
    panels = {id(panel): _data(svg([panel], panel.title)) for each in drawn for panel in each.panels}
    html = rendered("page.html", page=page, picture=lambda panel: panels[id(panel)])
    return Report(html, rendered("report.md", page=page), figures)


def _data(picture: bytes) -> str:
    """An address that holds the picture itself."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
