"""innerloop study, and what innerloop paper shares with it: list, plan, run and report a study"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import OmitArgPrefixes, Positional

from innerloop.cli.errors import say
from innerloop.device import pick_device
from innerloop.experiments.answers import Damaged, Kept, find_or_why, keep_reasons, reasons
from innerloop.experiments.estimates import all_left, duration, rates, seconds_left
from innerloop.experiments.plan import Training, damaged, trainings, unanswered
from innerloop.experiments.questions import Question, name_of
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study, load_study
from innerloop.experiments.training import Run, data_of, iterations_of
from innerloop.runs.images import Compute
from innerloop.runs.sources import Source

Action = Literal["list", "plan", "run", "report"]


@dataclass(frozen=True)
class Options:
    """How a study is made, where, and on what."""

    scale: str | None = None
    """how large: a name that `list` shows. plan and run need it where there are several; report takes all that have
    results"""
    seeds: int | None = None
    """trainings of everything, with seeds 0, 1, ...; each scale has its own number"""
    store: Path | None = None
    """where runs and answers are kept; runs/NAME if not given"""
    out: Path | None = None
    """where report writes index.html, report.md and figures/; NAME-report if not given"""
    omniglot: str | None = None
    """where Omniglot lies; downloaded if not given"""
    mini_imagenet: str | None = None
    """where mini-ImageNet lies: a folder, or hf://owner/name on Hugging Face"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""
    workers: str = "1"
    """trainings at a time, each in a process of its own; auto: one a GPU, or one a core"""
    executor: Literal["local", "ray"] = "local"
    """where trainings run: on this machine, or on the Ray cluster at RAY_ADDRESS (needs the extra `scale`)"""

    def means(self, run: Run) -> tuple[Compute, Source]:
        """On what a run is computed, and where its data lies."""
        sources = {"omniglot": self.omniglot, "mini-imagenet": self.mini_imagenet}
        return Compute(self.device, self.chunk_size), Source(sources.get(data_of(run)))


@dataclass(frozen=True)
class StudyCommand:
    """A study of your own, declared in a Python file: list what it shows, plan, run, and report."""

    file: Positional[Path]
    """with a Study called STUDY"""
    action: Positional[Action]
    what: Positional[tuple[str, ...]] = ()
    """such as table1 figure2; all if not given"""
    options: OmitArgPrefixes[Options] = field(default_factory=Options)

    def run(self) -> None:
        act(load_study(self.file), self.action, self.what, self.options)


def act(study: Study, action: Action, what: Sequence[str], options: Options) -> None:
    """Do what was asked for with the exhibits that were asked for."""
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {options.seeds}")
    request = _Request(study.only(what), options)
    actions: dict[Action, Callable[[_Request], None]] = {"list": _list, "plan": _plan, "run": _run, "report": _report}
    actions[action](request)


@dataclass(frozen=True)
class _Request:
    study: Study
    options: Options

    @property
    def store(self) -> Path:
        return (self.options.store or Path("runs") / self.study.name).expanduser()

    def scales(self) -> list[Scale]:
        """The scale that was asked for, or all, with the number of seeds that was asked for."""
        names = [scale.name for scale in self.study.scales] if self.options.scale is None else [self.options.scale]
        return [self.study.scale(name, self.options.seeds) for name in names]

    def questions(self, action: str) -> list[Question]:
        """What the one scale that was asked for asks."""
        scales = self.scales()
        if len(scales) > 1:
            names = [scale.name for scale in scales]
            raise ValueError(f"{action} needs --scale: {', '.join(names[:-1])} or {names[-1]}")
        return self.study.questions(scales[0])


def _list(request: _Request) -> None:
    scales = request.scales()
    table = Table("name", "what it shows", *(Column(scale.name, justify="right") for scale in scales))
    for exhibit in request.study.exhibits:
        counts = [_count(exhibit.questions(scale), request.store) for scale in scales]
        table.add_row(exhibit.name, exhibit.title, *counts)
    Console().print(table)
    for scale in scales:
        say(f"{scale.name}: {scale.about}")
    say("numbers: questions that are answered, of those that it asks")
    _say_damage([question for scale in scales for question in request.study.questions(scale)], request.store)


def _count(questions: list[Question], store: Path) -> str:
    return f"{sum(isinstance(find_or_why(each, store), Kept) for each in questions)}/{len(questions)}"


def _say_damage(questions: Sequence[Question], store: Path) -> None:
    for why in dict.fromkeys(damaged(questions, store).values()):
        say(f"innerloop: warning: {why}")


def _plan(request: _Request) -> None:
    questions = request.questions("plan")
    pick_device(request.options.device)
    plan = trainings(questions, request.store)
    known = rates(plan)
    table = Table(
        Column("run", overflow="fold"), *(Column(name, justify="right") for name in ("iterations", "done", "left"))
    )
    for training in plan:
        seconds = seconds_left(training, known)
        shown = "unknown" if seconds is None else duration(seconds) if training.needed else "-"
        table.add_row(training.spec.name, str(iterations_of(training.spec)), _done(training), shown)
    Console().print(table)
    left = len(unanswered(questions, request.store, request.options.means))
    needed = [training for training in plan if training.needed]
    training = f"{len(needed)} trainings ({all_left(plan)} one after the other)" if needed else "no training"
    print(f"{len(questions) - left}/{len(questions)} questions are answered. Left: {training}.")
    _say_damage(questions, request.store)


def _done(training: Training) -> str:
    if training.damage:
        return "damaged"
    if training.finished:
        return "all"
    if not training.needed:
        return "its answers"
    return str(training.done) if training.done else "-"


def _run(request: _Request) -> None:
    from innerloop.experiments.executors.local import carry_out_in, workers_named
    from innerloop.experiments.executors.ray_cluster import carry_out_on_ray

    questions, options, store = request.questions("run"), request.options, request.store
    carry_out = {"local": carry_out_in, "ray": carry_out_on_ray}[options.executor]
    missing = carry_out(workers_named(options.workers), questions, store, options.means, say)
    asked = set(map(name_of, questions))
    kept = {name: why for name, why in _reasons(store).items() if name not in asked}
    keep_reasons(kept | {name_of(question): why for question, why in missing.items()}, store)
    for why in dict.fromkeys(missing.values()):
        say(f"{sum(other == why for other in missing.values())} questions are open: {why}")
    if missing:
        raise ValueError("the rest is done; what is missing is said above")
    say(f"all is made. To look at it: {request.study.command} report --store {store}")


def _report(request: _Request) -> None:
    from innerloop.report import compose, write  # matplotlib is slow to load

    study, options, store = request.study, request.options, request.store
    scales = tuple(_with_all_seeds(study, scale, request) for scale in request.scales())
    questions = [question for scale in scales for question in study.questions(scale)]
    why = _reasons(store)
    missing = {question: why[name] for question in questions if (name := name_of(question)) in why}
    missing |= damaged(questions, store)
    made = compose(study, lambda question: _kept(question, store), scales, missing)
    print(f"report: {write(made, (options.out or Path(f'{study.name}-report')).expanduser())}")
    _say_damage(questions, store)


def _kept(question: Question, store: Path) -> Kept[object] | None:
    found = find_or_why(question, store)
    return found if isinstance(found, Kept) else None


def _with_all_seeds(study: Study, scale: Scale, request: _Request) -> Scale:
    """The scale with as many seeds as the store has answers of, where no other number was asked for."""

    def answered(seeds: int) -> int:
        wider = study.questions(replace(scale, seeds=seeds))
        return sum(_kept(question, request.store) is not None for question in wider)

    while request.options.seeds is None and answered(scale.seeds + 1) > answered(scale.seeds):
        scale = replace(scale, seeds=scale.seeds + 1)
    return scale


def _reasons(store: Path) -> dict[str, str]:
    try:
        return reasons(store)
    except Damaged as damage:
        say(f"innerloop: warning: {damage}")
        return {}
