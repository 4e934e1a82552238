"""The HTML page, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from innerloop.experiments.exhibits import Claim, Figure, Table, Verdict
from innerloop.paper.scales import Scale
from innerloop.report import format as words
from innerloop.report.collect import Result
from innerloop.report.plot import svg
from innerloop.report.tables import html_grid, html_table, panel_numbers

Rows = Sequence[Sequence[Result]]
"""A row for every artifact, with a result for every scale."""
_KINDS: dict[Verdict, str] = {"holds": "good", "does not hold": "bad", "not enough runs": "open"}


def html(scales: Sequence[Scale], rows: Rows) -> str:
    """The whole page."""
    made = [row for row in rows if any(result.found for result in row)]
    parts = [_head(scales, rows) if made else _empty(), *map(_section, made), _undone(rows), _settings(scales)]
    template = files("innerloop.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(f"{words.TITLE} Reproduced"), body="\n".join(filter(None, parts)))


def _opening() -> str:
    return (
        f"<header>\n<h1>{escape(words.TITLE)}</h1>\n<p>{escape(words.WHAT)}</p>\n"
        f'<p class="cite">{escape(words.PAPER)}, <a href="{words.LINK}">{words.ARXIV}</a>.</p>'
    )


def _empty() -> str:
    return f'{_opening()}\n<p class="banner" role="note">{escape(words.NOTHING)}</p>\n</header>'


def _head(scales: Sequence[Scale], rows: Rows) -> str:
    """What the page is, and every claim with its verdict at every scale."""
    tallies = "\n".join(
        f'<p class="tally">Scale {escape(scale.name)}: {escape(words.tally([row[i] for row in rows]))}.</p>'
        f"{_banner(scale)}"
        for i, scale in enumerate(scales)
    )
    names = "".join(f'<th scope="col" class="of">{escape(scale.name)}</th>' for scale in scales)
    return (
        f"{_opening()}\n{tallies}\n</header>\n"
        '<table class="claims" id="claims">\n'
        f'<thead><tr><td></td><th scope="col">the paper says</th>{names}</tr></thead>\n'
        + "".join(map(_claim_rows, rows))
        + "</table>"
    )


def _claim_rows(row: Sequence[Result]) -> str:
    """The claims of one artifact in the summary."""
    artifact = row[0].artifact
    made = any(result.found for result in row)
    name = f'<a href="#{artifact.name if made else "undone"}">{escape(words.label(artifact))}</a>'
    head = f'<th scope="rowgroup" rowspan="{len(artifact.claims)}">{name}</th>'
    lines = []
    for i, claim in enumerate(artifact.claims):
        verdicts = "".join(
            f'<td class="of" data-scale="{escape(result.scale.name)}">'
            f"{_verdict(result.verdicts[i], words.anchor(result) if result.found else 'undone')}</td>"
            for result in row
        )
        lines.append(f"<tr>{'' if i else head}<td>{escape(claim.sentence)}</td>{verdicts}</tr>\n")
    return f"<tbody>\n{''.join(lines)}</tbody>\n" if lines else ""


def _verdict(verdict: Verdict, anchor: str = "") -> str:
    text = f"{words.MARKS[verdict]} {verdict}"
    if anchor:
        return f'<a class="verdict {_KINDS[verdict]}" href="#{escape(anchor)}">{text}</a>'
    return f'<span class="verdict {_KINDS[verdict]}">{text}</span>'


def _banner(scale: Scale) -> str:
    return f'<p class="banner" role="note">{escape(words.SMOKE)}</p>' if scale.name == "smoke" else ""


def _section(row: Sequence[Result]) -> str:
    """An artifact: what the paper claims and whether it holds, what was measured, and what came out at each scale."""
    artifact = row[0].artifact
    row = [result for result in row if result.found]
    claims = "\n".join(_claim(claim, i, row) for i, claim in enumerate(artifact.claims))
    paper = f"<p><b>In the paper:</b> {escape(artifact.published)}</p>\n" if isinstance(artifact, Figure) else ""
    return (
        f'<section id="{escape(artifact.name)}">\n<h2><span class="name">{escape(words.label(artifact))}</span> '
        f"{escape(artifact.title)}</h2>\n{claims}\n<p><b>Measured here:</b> {escape(artifact.about)}</p>\n{paper}"
        + "\n".join(map(_result, row))
        + "\n</section>"
    )


def _claim(claim: Claim, i: int, row: Sequence[Result]) -> str:
    """What the paper says (the i-th claim), when it holds, and whether it does."""
    found = " ".join(f'<span class="at">{escape(each.scale.name)} {_verdict(each.verdicts[i])}</span>' for each in row)
    return (
        f'<div class="claim"><p class="said">{escape(claim.sentence)}</p>\n'
        f'<p class="soft">Holds if: {escape(claim.test)}.</p>\n{found}</div>'
    )


def _result(result: Result) -> str:
    """An artifact at one scale."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in words.facts(result))
    command = f"<dt>Command</dt><dd><code>{escape(words.command(result.artifact, result.scale))}</code></dd>"
    body = html_table(result, result.artifact) if isinstance(result.artifact, Table) else _panels(result)
    return (
        f'<div id="{escape(words.anchor(result))}">\n<h3>Scale {escape(result.scale.name)}</h3>\n'
        f"{_banner(result.scale)}{body}\n<dl>{facts}{command}</dl>\n</div>"
    )


def _panels(result: Result) -> str:
    """The panels side by side where there is room, and the numbers of those that are short."""
    if not result.panels:
        return f"<p>{escape(words.WAITING)}</p>"
    name, anchor = words.label(result.artifact), words.anchor(result)
    drawn = "\n".join(
        svg([panel], f"{name}, scale {result.scale.name}: {panel.title}", f"{anchor}-{i}")
        for i, panel in enumerate(result.panels, start=1)
    )
    numbers = "\n".join(html_grid(panel_numbers(panel)) for panel in result.panels if words.short(panel))
    details = f"<details><summary>The numbers</summary>\n{numbers}\n</details>" if numbers else ""
    stated = words.stated(result)
    return f'<figure><div class="panels">\n{drawn}\n</div>{html_grid(stated) if stated else ""}{details}</figure>'


def _undone(rows: Rows) -> str:
    """What has no result yet."""
    undone = [result for row in rows for result in row if not result.found]
    if not undone:
        return ""
    lines = "\n".join(
        f"<li>{escape(words.undone(each))}: <code>{escape(words.command(each.artifact, each.scale))}</code></li>"
        for each in undone
    )
    return f'<section id="undone" class="undone">\n<h2>{words.UNDONE}</h2>\n<ul>\n{lines}\n</ul>\n</section>'


def _settings(scales: Sequence[Scale]) -> str:
    """How large the trainings are."""
    parts = "\n".join(
        f"<h3>Scale {escape(scale.name)}, {words.repeats(scale)}</h3>\n{html_grid(words.settings(scale), 2)}"
        for scale in scales
    )
    return f'<section id="scales">\n<h2>{words.SETTINGS}</h2>\n{parts}\n</section>' if scales else ""
