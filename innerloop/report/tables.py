"""Tables of numbers, as HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from innerloop.experiments.exhibits import Panel, Place, Table
from innerloop.report.collect import Entry, Result
from innerloop.report.format import NONE, explained, legend, mark, number, published, signed


def html_table(result: Result, table: Table) -> str:
    """Every place of the table: ours large, the paper's and the difference beneath."""
    head = "".join(f'<th scope="col">{breakable(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(_html_cell(result, table, (row, column)) for column in table.columns)
        + "</tr>\n"
        for row in table.rows
    )
    caption = f"<figcaption>{escape(legend(result, table))}</figcaption>"
    return (
        f'<figure class="table"><div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table>\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>{caption}</figure>"
    )


def _html_cell(result: Result, table: Table, place: Place) -> str:
    entry, digits = result.entries[place], table.column_digits.get(place[1], table.digits)
    title = escape(explained(entry, digits))
    if entry.mean is None:
        ours = f'<span class="ours none">{NONE}</span>'
    else:
        ours = f'<span class="ours">{number(entry.mean, digits)}{_spread(result, entry, digits)}</span>'
    paper = f"<span>paper {published(entry, digits)}</span>" if entry.published else ""
    gap = "" if entry.difference is None else f' <span class="gap">{signed(entry.difference, digits)}</span>'
    return f'<td title="{title}">{ours}' + (f'<span class="paper">{paper}{gap}</span>' if paper else "") + "</td>"


def _spread(result: Result, entry: Entry, digits: int) -> str:
    if entry.spread is None:
        return ""
    return f' <span class="spread">± {number(entry.spread, digits)}{mark(result, entry)}</span>'


def breakable(name: str) -> str:
    """Escaped; a long name may break after its hyphens and slashes."""
    return re.sub(r"([-/_,])(?=\S)", r"\1<wbr>", escape(name))


def html_grid(rows: Sequence[Sequence[str]], numeric_from: int = 1) -> str:
    """A plain table whose first row is its head; columns from `numeric_from` on are numbers."""
    kinds = ["" if column < numeric_from else ' class="number"' for column in range(len(rows[0]))]
    head = "".join(f'<th scope="col"{kind}>{breakable(each)}</th>' for kind, each in zip(kinds, rows[0], strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(each)}</td>" for kind, each in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows[1:]
    )
    table = f'<table class="grid">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def panel_numbers(panel: Panel) -> list[list[str]]:
    """A panel's points, a row for every series."""
    rows = [[panel.title, *(str(x) for x in panel.series[0].x)]]
    for series in panel.series:
        spread = [f" ± {number(each, 3)}" for each in series.spread] or [""] * len(series.y)
        rows.append([series.label, *(number(y, 3) + s for y, s in zip(series.y, spread, strict=True))])
    return rows


def markdown_table(result: Result, table: Table) -> str:
    """Ours, and beneath it the paper's with the difference."""
    rows = [["", *map(plain, table.columns)]]
    for row in table.rows:
        cells = [_markdown_cell(result, table, (row, column)) for column in table.columns]
        rows.append([plain(row), *cells])
    return f"{markdown_grid(rows)}\n\n{plain(legend(result, table))}"


def _markdown_cell(result: Result, table: Table, place: Place) -> str:
    entry, digits = result.entries[place], table.column_digits.get(place[1], table.digits)
    ours = NONE
    if entry.mean is not None:
        spread = f" ± {number(entry.spread, digits)}{mark(result, entry)}" if entry.spread is not None else ""
        ours = f"**{number(entry.mean, digits)}**{spread}"
    if entry.published is None:
        return ours
    gap = "" if entry.difference is None else f" ({signed(entry.difference, digits)})"
    return f"{ours}<br>paper {published(entry, digits)}{gap}"


def markdown_grid(rows: Sequence[Sequence[str]], numeric_from: int = 1) -> str:
    """Rows of Markdown whose first is the head; columns from `numeric_from` on are aligned to the right."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    kinds = (" --- |" if column < numeric_from else " ---: |" for column in range(len(rows[0])))
    return "\n".join([lines[0], f"|{''.join(kinds)}", *lines[1:]])


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = " ".join(text.replace("&", "&amp;").split())
    return re.sub(r"([\\`*_\[\]<>|~$#])", r"\\\1", text)
