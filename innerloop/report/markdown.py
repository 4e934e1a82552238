"""The same as Markdown: figures are files beside it."""

from __future__ import annotations

from collections.abc import Sequence

from innerloop.experiments.exhibits import Figure, Table, Verdict
from innerloop.paper.scales import Scale
from innerloop.report import format as words
from innerloop.report.collect import Result
from innerloop.report.sections import Rows
from innerloop.report.tables import markdown_grid, markdown_table, panel_numbers, plain


def markdown(scales: Sequence[Scale], rows: Rows) -> str:
    """The whole page."""
    made = [row for row in rows if any(result.found for result in row)]
    head = [f"# {words.TITLE}", plain(words.WHAT), f"{plain(words.PAPER)}, [{words.ARXIV}]({words.LINK})."]
    summary = _summary(scales, rows) if made else [f"**{plain(words.NOTHING)}**"]
    parts = [*head, *summary, *(part for row in made for part in _section(row)), *_undone(rows), *_settings(scales)]
    return "\n\n".join(parts) + "\n"


def _summary(scales: Sequence[Scale], rows: Rows) -> list[str]:
    tallies = [
        f"**Scale {plain(scale.name)}:** {words.tally([row[i] for row in rows])}.{_banner(scale)}"
        for i, scale in enumerate(scales)
    ]
    grid = [["", "the paper says", *(plain(scale.name) for scale in scales)]]
    for row in rows:
        for i, claim in enumerate(row[0].artifact.claims):
            verdicts = (
                f"[{_verdict(each.verdicts[i])}](#{words.anchor(each) if each.found else 'undone'})" for each in row
            )
            grid.append([words.label(row[0].artifact), plain(claim.sentence), *verdicts])
    return [*tallies, markdown_grid(grid, numeric_from=len(grid[0]))]


def _verdict(verdict: Verdict) -> str:
    return f"{words.MARKS[verdict]} {verdict}"


def _banner(scale: Scale) -> str:
    return f" _{plain(words.SMOKE)}_" if scale.name == "smoke" else ""


def _section(row: Sequence[Result]) -> list[str]:
    artifact = row[0].artifact
    row = [result for result in row if result.found]
    parts = [f"## {plain(words.heading(artifact))}"]
    for i, claim in enumerate(artifact.claims):
        verdicts = ", ".join(f"{plain(each.scale.name)} **{_verdict(each.verdicts[i])}**" for each in row)
        parts.append(f"> {plain(claim.sentence)}\n>\n> Holds if: {plain(claim.test)}. {verdicts}")
    parts.append(f"**Measured here:** {plain(artifact.about)}")
    if isinstance(artifact, Figure):
        parts.append(f"**In the paper:** {plain(artifact.published)}")
    return [*parts, *(part for result in row for part in _result(result))]


def _result(result: Result) -> list[str]:
    artifact, scale = result.artifact, result.scale
    parts = [f'<a id="{words.anchor(result)}"></a>\n\n### {words.label(artifact)}, scale {plain(scale.name)}']
    if banner := _banner(scale):
        parts.append(banner.strip())
    if isinstance(artifact, Table):
        parts.append(markdown_table(result, artifact))
    elif result.panels:
        parts.append(f"![{plain(words.heading(artifact))}](figures/{words.file_name(result)})")
        short = (panel for panel in result.panels if words.short(panel))
        grids = [*map(panel_numbers, short), words.stated(result)]
        parts += [markdown_grid([[plain(word) for word in line] for line in grid]) for grid in grids if grid]
    else:
        parts.append(plain(words.WAITING))
    facts = [f"- {name}: {plain(text)}" for name, text in words.facts(result)]
    return [*parts, "\n".join([*facts, f"- Command: `{words.command(artifact, scale)}`"])]


def _undone(rows: Rows) -> list[str]:
    undone = [result for row in rows for result in row if not result.found]
    lines = [f"- {plain(words.undone(each))}: `{words.command(each.artifact, each.scale)}`" for each in undone]
    return [f'<a id="undone"></a>\n\n## {words.UNDONE}', "\n".join(lines)] if undone else []


def _settings(scales: Sequence[Scale]) -> list[str]:
    parts = [f"## {words.SETTINGS}"]
    for scale in scales:
        parts.append(f"### Scale {plain(scale.name)}, {words.repeats(scale)}")
        parts.append(markdown_grid([[plain(word) for word in row] for row in words.settings(scale)], numeric_from=2))
    return parts if scales else []
