"""The words and number formats that both pages share: what the templates call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from innerloop.experiments.exhibits import Exhibit, Figure, Panel, Panels, Table, Verdict
from innerloop.experiments.panel import LAYERS
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study
from innerloop.experiments.training import data_of
from innerloop.report.collect import Entry, Result

MARKS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "not enough runs": "…"}
MINUS, NONE = "\u2212", "\u2013"
POINTS = 12  # a series with more is not written out in numbers
_SOURCES = ("omniglot", "mini-imagenet")  # data whose place the command has to be told


def label(exhibit: Exhibit) -> str:
    """table1 is "Table 1"."""
    kind = exhibit.name.rstrip("0123456789")
    return f"{kind.capitalize()} {exhibit.name[len(kind) :]}".strip()


def heading(exhibit: Exhibit) -> str:
    """The label and the title."""
    return f"{label(exhibit)}: {exhibit.title}"


def number(value: float, digits: int) -> str:
    """With a real minus sign, and none for zero."""
    shown = f"{value:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown.replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """Always with its sign, except zero."""
    shown = number(value, digits)
    return shown if shown.startswith(MINUS) or float(shown) == 0 else f"+{shown}"


def digits_of(table: Table, column: str) -> int:
    """Decimals of a column."""
    return table.column_digits.get(column, table.digits)


def published(entry: Entry, digits: int) -> str:
    """The paper's number, with at least the decimals that the paper gives."""
    if entry.published is None:
        return ""
    return " ± ".join(
        number(each, max(digits, len(f"{each:g}".partition(".")[2]))) for each in entry.published if each is not None
    )


def explained(entry: Entry, digits: int) -> str:
    """What a place of a table holds, in words."""
    if entry.mean is None:
        return "not measured yet" if entry.asked else "not measured here"
    text = f"mean of {entry.repeats} repeats" if entry.repeats > 1 else "one repeat"
    if entry.spread is not None:
        kind = "sample standard deviation" if entry.kind == "sd" else "95 % interval over test episodes"
        text += f", {kind} {number(entry.spread, digits + 1)}"
    return text


def spreads(result: Result) -> str:
    """What ± means in a table, in one or two sentences."""
    entries = [entry for entry in result.entries.values() if entry.mean is not None]
    kinds = {entry.kind for entry in entries}
    counts = {entry.repeats for entry in entries if entry.kind == "sd"}
    repeats = " to ".join(str(count) for count in sorted({min(counts), max(counts)})) + " repeats" if counts else ""
    if "sd" in kinds and "interval" in kinds:
        return f"± is the standard deviation over {repeats}; with † the 95 % interval over the episodes of one repeat."
    if "sd" in kinds:
        return f"± is the standard deviation over {repeats}."
    return "± is the 95 % interval over the test episodes of one repeat." if "interval" in kinds else ""


def legend(result: Result, table: Table) -> str:
    """How to read a table, and what its numbers are worth."""
    unit = f"{table.unit[0].upper()}{table.unit[1:]}." if table.unit else ""
    paper = "Below each number the paper's, and ours minus the paper's." if table.published else ""
    return " ".join(filter(None, [unit, spreads(result), paper]))


def worth(result: Result) -> str:
    """What the numbers of a result are, in a sentence; empty where they are the same at every scale."""
    exhibit, scale = result.exhibit, result.scale
    return "" if isinstance(exhibit, Table) and exhibit.unscaled and scale.judged else scale.about


def mark(result: Result, entry: Entry) -> str:
    """A dagger where a table's spreads are of two kinds and this one is an interval."""
    mixed = {"sd", "interval"} <= {each.kind for each in result.entries.values()}
    return "†" if mixed and entry.kind == "interval" else ""


def joined(items: Iterable[object]) -> str:
    """a, b and c."""
    words = [str(item) for item in items]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def facts(result: Result) -> list[tuple[str, str]]:
    """What was run for a result, on what."""
    seeds, found = joined(result.seeds), f"{result.found} of {result.needed}"
    notes = "".join(f"; {note}" for note in result.notes)
    rows = [
        ("Seeds", seeds + (f" of {result.scale.seeds}" if 0 < len(result.seeds) < result.scale.seeds else "")),
        *(
            (f"{kind.upper()} of unrelated images", _by_layer(values))
            for kind, values in result.permuted.items()
            if _shows(result, kind.upper())
        ),
        ("Devices" if len(result.devices) > 1 else "Device", joined(result.devices)),
        ("Judged on", _judged_on(result)),
        ("Questions", "" if result.found == result.needed else f"{found} are answered{notes}"),
    ]
    return [(name, text) for name, text in rows if text]


def _shows(result: Result, what: str) -> bool:
    exhibit = result.exhibit
    if isinstance(exhibit, Table):
        return any(what in column for column in exhibit.columns)
    return any(what in panel.title + panel.y_label for panel in result.panels)


def _judged_on(result: Result) -> str:
    most = max((entry.repeats for entry in result.entries.values()), default=0)
    if not result.verdicts or not 0 < result.whole < most:
        return ""
    return f"{result.whole} of {most} repeats, with all their places: a claim compares like with like"


def _by_layer(values: Mapping[str, float]) -> str:
    return ", ".join(f"{LAYERS.get(layer, layer)} {value:.2f}" for layer, value in values.items())


def stated(result: Result) -> list[list[str]]:
    """Numbers that the paper states of a figure, beside ours; the first row names the columns."""
    if not isinstance(result.exhibit, Figure) or not result.panels:
        return []
    rows = []
    for each in result.exhibit.stated:
        try:
            ours = each.read(Panels(result.panels))
        except KeyError:  # not measured yet
            continue
        rows.append([each.name, *(number(n, each.digits) for n in (each.number, ours)),
                     signed(ours - each.number, each.digits)])  # fmt: skip
    return [["stated in the paper", "paper", "ours", "difference"], *rows] if rows else []


def short(panel: Panel) -> bool:
    """Whether a panel's numbers can be written out: few points, the same x for all."""
    first = panel.series[0]
    return panel.kind != "against" and len(first.x) <= POINTS and all(each.x == first.x for each in panel.series)


def panel_numbers(panel: Panel) -> list[list[str]]:
    """A panel's points, a row for every series; the first row names the columns."""
    rows = [[panel.title, *(str(x) for x in panel.series[0].x)]]
    for series in panel.series:
        spread = [f" ± {number(each, 3)}" for each in series.spread] or [""] * len(series.y)
        rows.append([series.label, *(number(y, 3) + s for y, s in zip(series.y, spread, strict=True))])
    return rows


def command(study: Study, exhibit: Exhibit, scale: Scale) -> str:
    """What makes an exhibit."""
    data = dict.fromkeys(data_of(run) for question in exhibit.questions(scale) for run in question.runs)
    flags = "".join(f" --{name} PATH" for name in data if name in _SOURCES)
    return f"{study.command} run {exhibit.name} --scale {scale.name} --seeds {scale.seeds}{flags}"


def anchor(result: Result) -> str:
    """Where it stands on the page."""
    return f"{result.exhibit.name}-{result.scale.name}"


def repeats(scale: Scale) -> str:
    """How many seeds."""
    return f"{scale.seeds} seed{'s' if scale.seeds > 1 else ''}"


def undone(result: Result) -> str:
    """What is missing for a result."""
    notes = "".join(f", {note}" for note in result.notes)
    count = f"none of {result.needed} questions" if result.needed else f"nothing to ask with {repeats(result.scale)}"
    return f"{label(result.exhibit)}, {result.exhibit.title}, at scale {result.scale.name} ({count}{notes})"


def tally(results: Sequence[Result]) -> str:
    """How many of all claims hold at a scale."""
    verdicts = [verdict for result in results for verdict in result.verdicts]
    holds, fails = verdicts.count("holds"), verdicts.count("does not hold")
    parts = [f"{holds} of {len(verdicts)} claims hold{'' if holds - 1 else 's'}"]
    if fails:
        parts.append(f"{fails} {'do' if fails > 1 else 'does'} not")
    if waiting := len(verdicts) - holds - fails:
        parts.append(f"for {waiting} there are not enough runs")
    return ", ".join(parts)


def settings(study: Study, scale: Scale) -> list[list[str]]:
    """Problem by problem: how large a scale's trainings are; the first row names the columns."""
    rows = [(problem, study.settings(spec)) for problem, spec in scale.problems.items()]
    if not rows or not rows[0][1]:
        return []
    return [["problem", *rows[0][1]], *([problem, *shown.values()] for problem, shown in rows)]
