"""Panels drawn with matplotlib: SVG for the page, PNG to look at. The same panels give the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from innerloop.experiments.exhibits import Panel, Series
from innerloop.experiments.panel import fit
from innerloop.report.format import number
from innerloop.report.style import CARD, GREY, GRID, INK, LINES, MARKERS, colours, tint

SIZE = {"lines": (4.3, 2.8), "bars": (4.3, 2.8), "against": (3.0, 2.9)}  # of a panel without its legend, in inches
LINE = 0.185  # height of a line of a legend, in inches
LETTER = 0.073  # width of a letter at the size of legends and ticks, in inches
MANY = 25  # points of a line: more are drawn without markers, their spread as a band
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": CARD,
    "axes.facecolor": CARD,
    "svg.fonttype": "path",
    "svg.hashsalt": "innerloop",
    "path.simplify": True,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
}


def svg(panels: Sequence[Panel], title: str) -> bytes:
    """All panels as an SVG file; `title` is what a screen reader says.

    Text is drawn as paths, so that it looks the same without any font.
    """
    nothing_else = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    return _saved(panels, format="svg", metadata={"Title": title, **nothing_else})


def png(panels: Sequence[Panel], *, dpi: int = 110) -> bytes:
    """The same picture in pixels."""
    return _saved(panels, format="png", dpi=dpi, metadata={"Software": None})


def columns(panels: Sequence[Panel]) -> int:
    """How many stand side by side where there is room."""
    return 3 if len(panels) == 3 else min(2, len(panels))


def _saved(panels: Sequence[Panel], **how: Any) -> bytes:
    with rc_context(STYLE), io.BytesIO() as file:
        _draw(panels, columns(panels)).savefig(file, **how)
        return file.getvalue()


def _draw(panels: Sequence[Panel], across: int) -> Figure:
    """A grid of panels; below each is room for its legend, the same for a whole row."""
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [
        each
        for row in rows
        for each in (max(SIZE[panel.kind][1] for panel in row), LINE * max(map(_legend_lines, row)) + 0.1)
    ]
    width = across * max(SIZE[panel.kind][0] for panel in panels)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.08, hspace=0, wspace=0.02)  # pyright: ignore
    grid = figure.subplots(2 * len(rows), across, height_ratios=heights, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, panel in enumerate(panels):
        row, column = divmod(place, across)
        axes = grid[2 * row, column]
        axes.set_axis_on()
        handles, labels = _panel(axes, panel)
        grid[2 * row + 1, column].legend(
            handles, labels, loc="upper center", ncols=_legend_columns(panel), frameon=False,
            borderaxespad=0, columnspacing=1.4, handlelength=2.2, fontsize=8.5, labelspacing=0.35,
        )  # fmt: skip
    _settle(figure)
    return figure


def _settle(figure: Figure) -> None:
    """Lay out and round: the solver's last bits differ from time to time, and names in the SVG are made of them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        x, y, width, height = (round(value, 4) for value in axes.get_position(original=True).bounds)
        axes.set_position((x, y, width, height))


def _legend_columns(panel: Panel) -> int:
    """As many as fit side by side."""
    longest = max([len(each.label) for each in panel.series] + [31] * (panel.kind == "against"))
    return max(1, min(len(panel.series), int((SIZE[panel.kind][0] - 0.1) / (LETTER * longest + 0.55))))


def _legend_lines(panel: Panel) -> int:
    entries = len(panel.series) + 2 * (panel.kind == "against")
    return math.ceil(entries / _legend_columns(panel))


def _panel(axes: Axes, panel: Panel) -> tuple[list[Any], list[str]]:
    """Draw one panel; the handles and labels of its legend."""
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.y_range:
        axes.set_ylim(panel.y_range)
    axes.grid(axis="both" if panel.kind == "against" else "y", color=GRID, linewidth=0.8)
    axes.tick_params(length=3, labelsize=8.5)
    draw = {"lines": _lines, "bars": _bars, "against": _against}[panel.kind]
    named = draw(axes, panel.series)
    return list(named.values()), list(named)


def _positions(axes: Axes, series: Sequence[Series]) -> dict[float | str, float]:
    """Where every x is: categories side by side, in the order of their first use; numbers where they are."""
    every = list(dict.fromkeys(x for each in series for x in each.x))
    if not any(isinstance(x, str) for x in every):
        axes.xaxis.set_major_locator(
            MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=all(isinstance(x, int) for x in every))
        )
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        return {x: float(x) for x in every}
    crowded = sum(len(str(x)) + 2 for x in every) * LETTER > SIZE["lines"][0] - 0.8
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(every)), [str(x) for x in every], **slant)
    return {x: float(place) for place, x in enumerate(every)}


def _lines(axes: Axes, series: Sequence[Series]) -> dict[str, Any]:
    """y over x; with many points no markers, and a band for the spread."""
    where, found = _positions(axes, series), {}
    for each in series:
        colour, times = colours([s.label for s in series])[each.label]
        x, y = [where[value] for value in each.x], np.array(each.y, float)
        style = LINES[times % len(LINES)]
        if len(x) > MANY:
            (found[each.label],) = axes.plot(x, y, style, color=colour, linewidth=1.3)
            if each.spread:
                half = np.array(each.spread)
                axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
        else:
            bars = axes.errorbar(
                x, y, yerr=each.spread or None, linestyle=style, marker=_marker(series, each), color=colour,
                capsize=2.5, elinewidth=1, markeredgecolor=CARD, markeredgewidth=0.6,
            )  # fmt: skip
            found[each.label] = bars.lines[0]
    return found


def _bars(axes: Axes, series: Sequence[Series]) -> dict[str, Any]:
    """Groups of bars side by side."""
    where, found = _positions(axes, series), {}
    width = 0.8 / len(series)
    for place, each in enumerate(series):
        colour = tint(*colours([s.label for s in series])[each.label])
        x = [where[value] + (place - (len(series) - 1) / 2) * width for value in each.x]
        found[each.label] = axes.bar(
            x, each.y, width * 0.92, yerr=each.spread or None, color=colour, capsize=min(2.5, 20 * width),
            error_kw={"elinewidth": 1, "ecolor": INK},
        )  # fmt: skip
    return found


def _against(axes: Axes, series: Sequence[Series]) -> dict[str, Any]:
    """Points, the line y = x and the least squares line through all of them, on equal axes."""
    every_x = [float(x) for each in series for x in each.x]
    every_y = [y for each in series for y in each.y]
    low, high = min(every_x + every_y), max(every_x + every_y)
    edge = 0.06 * (high - low) or 0.05
    axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    found: dict[str, Any] = {}
    for each in series:
        colour = tint(*colours([s.label for s in series])[each.label])
        found[each.label] = axes.scatter(
            each.x, each.y, 26, color=colour, marker=_marker(series, each), alpha=0.8, edgecolors=CARD, linewidths=0.4
        )
    found["y = x"] = axes.axline((low, low), slope=1, color=GREY, linewidth=1.2, linestyle="--", zorder=0.9)
    try:
        line = fit(every_x, every_y)
    except KeyError:  # too few points
        return found
    ends = [min(every_x), max(every_x)]
    label = f"best fit: slope {number(line.slope, 2)}, R² {line.r2:.2f}"
    (found[label],) = axes.plot(ends, [line.slope * x + line.intercept for x in ends], color=INK, linewidth=1.2)
    return found


def _marker(series: Sequence[Series], each: Series) -> str:
    return MARKERS[list(series).index(each) % len(MARKERS)]
