"""The words and number formats that the page and the Markdown share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from innerloop.experiments.exhibits import Artifact, Figure, Panel, Panels, Series, Table, Verdict
from innerloop.experiments.panel import LAYERS
from innerloop.paper.scales import Scale
from innerloop.report.collect import Entry, Result

TITLE = "Rapid learning or feature reuse?"
PAPER = (
    "Aniruddh Raghu, Maithra Raghu, Samy Bengio and Oriol Vinyals: “Rapid Learning or Feature Reuse? Towards "
    "Understanding the Effectiveness of MAML”, ICLR 2020"
)
ARXIV, LINK = "arXiv:1909.09157", "https://arxiv.org/abs/1909.09157"
WHAT = (
    "The paper asks why MAML works: because it learns each new task rapidly, or because the features that it already "
    "has can be reused as they are? These are its tables and figures measured anew with innerloop, beside the "
    "published numbers, and for each of its claims whether it holds here."
)
SMOKE = "smoke: tiny networks on drawn glyphs; these numbers only show that everything runs."
NOTHING = "Nothing is measured yet: this page has no results."
WAITING = "This figure needs more runs than there are yet."
UNDONE = "Not made yet"
SETTINGS = "How large each scale is"
MARKS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "not enough runs": "…"}
MINUS, NONE = "\u2212", "\u2013"
POINTS = 12  # a series with more is not written out in numbers


def label(artifact: Artifact) -> str:
    """table1 is "Table 1"."""
    kind = artifact.name.rstrip("0123456789")
    return f"{kind.capitalize()} {artifact.name[len(kind) :]}".strip()


def heading(artifact: Artifact) -> str:
    """The label and the title."""
    return f"{label(artifact)}: {artifact.title}"


def number(value: float, digits: int) -> str:
    """With a real minus sign, and none for zero."""
    shown = f"{value:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown.replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """Always with its sign, except zero."""
    shown = number(value, digits)
    return shown if shown.startswith(MINUS) or float(shown) == 0 else f"+{shown}"


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
    """How to read a table."""
    unit = f"{table.unit[0].upper()}{table.unit[1:]}." if table.unit else ""
    return " ".join(filter(None, [unit, spreads(result), "Below each number the paper's, and ours minus the paper's."]))


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
        ("Measures", "" if result.found == result.needed else f"{found} are there{notes}"),
    ]
    return [(name, text) for name, text in rows if text]


def _shows(result: Result, what: str) -> bool:
    artifact = result.artifact
    if isinstance(artifact, Table):
        return any(what in column for column in artifact.columns)
    return any(what in panel.title + panel.y_label for panel in result.panels)


def _judged_on(result: Result) -> str:
    most = max((entry.repeats for entry in result.entries.values()), default=0)
    if not 0 < result.whole < most:
        return ""
    return f"{result.whole} of {most} repeats, with all their places: a claim compares like with like"


def stated(result: Result) -> list[list[str]]:
    """Numbers that the paper states of a figure, beside ours; the first row names the columns."""
    if not isinstance(result.artifact, Figure) or not result.panels:
        return []
    rows = []
    for each in result.artifact.stated:
        try:
            ours = each.read(Panels(result.panels))
        except KeyError:  # not measured yet
            continue
        rows.append([each.name, *(number(n, each.digits) for n in (each.number, ours)),
                     signed(ours - each.number, each.digits)])  # fmt: skip
    return [["stated in the paper", "paper", "ours", "difference"], *rows] if rows else []


def _by_layer(values: Mapping[str, float]) -> str:
    return ", ".join(f"{LAYERS.get(layer, layer)} {value:.2f}" for layer, value in values.items())


def command(artifact: Artifact, scale: Scale) -> str:
    """What makes it."""
    data = dict.fromkeys(run.problem.data for measure in artifact.measures(scale) for run in measure.runs)
    flags = "".join(f" --{name} PATH" for name in data if name in ("omniglot", "mini-imagenet"))
    return f"innerloop paper run {artifact.name} --scale {scale.name} --seeds {scale.seeds}{flags}"


def anchor(result: Result) -> str:
    """Where it stands on the page."""
    return f"{result.artifact.name}-{result.scale.name}"


def file_name(result: Result) -> str:
    """Of a figure."""
    return f"{anchor(result)}.svg"


def repeats(scale: Scale) -> str:
    """How many seeds."""
    return f"{scale.seeds} seed{'s' if scale.seeds > 1 else ''}"


def undone(result: Result) -> str:
    """What is missing for a result."""
    notes = "".join(f", {note}" for note in result.notes)
    count = f"none of {result.needed} measures" if result.needed else f"nothing to measure with {repeats(result.scale)}"
    return f"{label(result.artifact)}, {result.artifact.title}, at scale {result.scale.name} ({count}{notes})"


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


def short(panel: Panel) -> bool:
    """Whether a panel's numbers can be written out: few points, the same x for all."""
    first: Series = panel.series[0]
    return panel.kind != "against" and len(first.x) <= POINTS and all(each.x == first.x for each in panel.series)


def settings(scale: Scale) -> list[tuple[str, ...]]:
    """Problem by problem: how large a scale's trainings are; the first row names the columns."""
    head = ("problem", "data", "image size", "filters", "tasks a batch", "iterations", "test episodes")
    rows = [
        (problem, spec.problem.data, f"{spec.problem.size} px", str(spec.model.width), str(spec.outer.meta_batch),
         f"{spec.schedule.iterations:,}", f"{spec.problem.test_episodes:,}")
        for problem, spec in scale.problems.items()
    ]  # fmt: skip
    return [head, *rows]
