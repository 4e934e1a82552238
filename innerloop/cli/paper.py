"""innerloop paper"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional

from innerloop.cli.errors import say
from innerloop.experiments.answers import find
from innerloop.experiments.estimates import answer_seconds
from innerloop.experiments.exhibits import Artifact
from innerloop.experiments.plan import Training, carry_out, duration, seconds_left, trainings, unanswered
from innerloop.experiments.questions import Measure, name_of, subject
from innerloop.paper import ARTIFACTS
from innerloop.paper.scales import SCALES, Scale
from innerloop.runs.checkpoint import write_whole
from innerloop.runs.config import Spec
from innerloop.runs.images import Compute
from innerloop.runs.sources import Source


@dataclass(frozen=True)
class Paper:
    """Reproduce tables and figures of the paper: list them, plan, run, and report."""

    action: Positional[Literal["list", "plan", "run", "report"]]
    what: Positional[tuple[str, ...]] = ()
    """such as table1 figure2; all if not given"""
    scale: Literal["smoke", "small", "paper"] | None = None
    """smoke: minutes, drawn glyphs, meaningless numbers; small: real data, an evening on two cores; paper: its full
    settings. plan and run need it; report takes all that have results"""
    seeds: int | None = None
    """trainings of everything, with seeds 0, 1, ...; 2 at smoke and small, 3 at paper"""
    store: Path = Path("runs/paper")
    """where runs and answers are kept"""
    out: Path = Path("paper-report")
    """where report writes index.html, report.md and figures/"""
    omniglot: str | None = None
    """where Omniglot lies; downloaded if not given"""
    mini_imagenet: str | None = None
    """where mini-ImageNet lies: a folder, or hf://owner/name on Hugging Face"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""

    def run(self) -> None:
        actions = {"list": _list, "plan": _plan, "run": _run, "report": _report}
        actions[self.action](self)

    def artifacts(self) -> dict[str, Artifact]:
        """The tables and figures that were asked for."""
        if unknown := [name for name in self.what if name not in ARTIFACTS]:
            raise ValueError(f"there is no {unknown[0]!r}. There are: {', '.join(ARTIFACTS)}.")
        return {name: ARTIFACTS[name] for name in self.what or ARTIFACTS}

    def scales(self) -> list[Scale]:
        """The scale that was asked for, or all, with the number of seeds that was asked for."""
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")
        chosen = [SCALES[self.scale]] if self.scale else list(SCALES.values())
        return [replace(scale, seeds=self.seeds or scale.seeds) for scale in chosen]

    def measures(self) -> list[Measure]:
        """What the one scale that was asked for needs, without repetition."""
        if self.scale is None:
            raise ValueError(f"{self.action} needs --scale: smoke (minutes), small (an evening) or paper (a GPU)")
        (scale,) = self.scales()
        found = (measure for artifact in self.artifacts().values() for measure in artifact.measures(scale))
        return list(dict.fromkeys(found))

    def how(self, spec: Spec) -> tuple[Compute, Source]:
        """Where a run's data lies, and on what it is computed."""
        sources = {"omniglot": self.omniglot, "mini-imagenet": self.mini_imagenet}
        return Compute(self.device, self.chunk_size), Source(sources.get(spec.problem.data))


def _list(command: Paper) -> None:
    scales = command.scales()
    table = Table("name", "what it shows", *(Column(scale.name, justify="right") for scale in scales))
    for name, artifact in command.artifacts().items():
        counts = [_count(artifact.measures(scale), command.store) for scale in scales]
        table.add_row(name, artifact.title, *counts)
    Console().print(table)
    say("numbers: measures that are made, of those that it needs")


def _count(measures: list[Measure], store: Path) -> str:
    return f"{sum(find(measure, store) is not None for measure in measures)}/{len(measures)}"


def _plan(command: Paper) -> None:
    measures = command.measures()
    table = Table(
        Column("run", overflow="fold"), *(Column(name, justify="right") for name in ("iterations", "done", "left"))
    )
    total = 0.0
    for training in trainings(measures, command.store):
        seconds = seconds_left(training, command.store, command.how(training.spec)[0])
        total += seconds
        shown = duration(seconds) if seconds else "-"
        table.add_row(training.spec.name, str(training.spec.schedule.iterations), _done(training), shown)
    Console().print(table)
    waiting = unanswered(measures, command.store, command.how)
    asking = sum(answer_seconds(measure, command.store, command.how(subject(measure))[0]) for measure in waiting)
    print(
        f"{len(measures) - len(waiting)}/{len(measures)} measures are made. Left on this machine: about "
        f"{duration(total)} of training and {duration(asking)} of measuring."
    )


def _done(training: Training) -> str:
    if training.finished:
        return "all"
    if not training.needed:
        return "its answers"
    return str(training.done) if training.done else "-"


def _run(command: Paper) -> None:
    measures = command.measures()
    missing = carry_out(measures, command.store, command.how, say)
    reasons = _reasons(command.store)
    reasons = {name: why for name, why in reasons.items() if name not in set(map(name_of, measures))}
    reasons |= {name_of(measure): why for measure, why in missing.items()}
    write_whole(command.store / "missing.json", json.dumps(reasons, indent=1).encode())
    for why in dict.fromkeys(missing.values()):
        say(f"{sum(other == why for other in missing.values())} measures are missing: {why}")
    if missing:
        raise ValueError("the rest is done; what is missing is said above")
    say(f"all is made. To look at it: innerloop paper report --store {command.store}")


def _report(command: Paper) -> None:
    from innerloop.report import page, write

    artifacts, reasons = command.artifacts().values(), _reasons(command.store)
    scales = [_with_all_seeds(scale, command) for scale in command.scales()]
    measures = {measure for artifact in artifacts for scale in scales for measure in artifact.measures(scale)}
    missing = {measure: why for measure in measures if (why := reasons.get(name_of(measure)))}
    report = page(scales, lambda measure: find(measure, command.store), artifacts, missing)
    print(f"report: {write(report, command.out)}")


def _with_all_seeds(scale: Scale, command: Paper) -> Scale:
    """The scale with as many seeds as the store has answers of, where no other number was asked for."""

    def answered(seeds: int) -> int:
        wider = replace(scale, seeds=seeds)
        measures = {measure for artifact in command.artifacts().values() for measure in artifact.measures(wider)}
        return sum(find(measure, command.store) is not None for measure in measures)

    while command.seeds is None and answered(scale.seeds + 1) > answered(scale.seeds):
        scale = replace(scale, seeds=scale.seeds + 1)
    return scale


def _reasons(store: Path) -> dict[str, str]:
    """Why the last `run` could not make some measures, by their names."""
    path = store / "missing.json"
    return json.loads(path.read_text()) if path.exists() else {}
