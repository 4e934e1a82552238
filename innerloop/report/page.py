"""One page with every table and figure made so far: HTML that needs nothing else, and Markdown with figures beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from innerloop.experiments.exhibits import Artifact
from innerloop.experiments.questions import Measure
from innerloop.paper.scales import Scale
from innerloop.report import format as words
from innerloop.report.collect import Find, collect
from innerloop.report.markdown import markdown
from innerloop.report.plot import svg
from innerloop.report.sections import html
from innerloop.runs.checkpoint import write_whole

_NONE: Mapping[Measure, str] = MappingProxyType({})


@dataclass(frozen=True)
class Report:
    """What there is to read."""

    html: str
    markdown: str
    figures: Mapping[str, str]  # SVG files by name, as the Markdown shows them


def write(report: Report, folder: Path) -> Path:
    """Put index.html, report.md and figures/*.svg there; the page's path.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    for name, text in report.figures.items():
        write_whole(folder / "figures" / name, text.encode())
    write_whole(folder / "report.md", report.markdown.encode())
    write_whole(folder / "index.html", report.html.encode())
    return folder / "index.html"


def page(
    scales: Sequence[Scale], find: Find, artifacts: Iterable[Artifact], missing: Mapping[Measure, str] = _NONE
) -> Report:
    """Everything that `find` has answers for.

    `missing` says what a measure without an answer needs, such as "needs mini-ImageNet: --mini-imagenet PATH".
    """
    find = cache(find)
    rows = [[collect(artifact, scale, find, missing) for scale in scales] for artifact in artifacts]
    begun = [i for i in range(len(scales)) if any(row[i].found for row in rows)]
    shown = begun or range(len(scales))  # a scale without a single answer would only say so in every place
    rows = [[row[i] for i in shown] for row in rows]
    made = [scales[i] for i in begun]
    drawn = [each for row in rows for each in row if each.panels]
    figures = {
        words.file_name(each): svg(each.panels, words.heading(each.artifact), words.anchor(each)) for each in drawn
    }
    return Report(html(made, rows), markdown(made, rows), figures)
