"""List, plan, run and report a study, as innerloop paper, rl paper and study do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from innerloop.cli.errors import say
from innerloop.cli.study import Action, Options
from innerloop.device import pick_device
from innerloop.experiments.answers import Damaged, Kept, find_or_why, keep_reasons, reasons
from innerloop.experiments.estimates import all_left, duration, rates, seconds_left
from innerloop.experiments.plan import Training, damaged, trainings, unanswered
from innerloop.experiments.questions import Question, name_of
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study
from innerloop.experiments.training import Run, data_of, iterations_of
from innerloop.runs.means import Compute, Source


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

    def means(self, run: Run) -> tuple[Compute, Source]:
        """On what a run is computed, and where its data lies."""
        options = self.options
        sources = {"omniglot": options.omniglot, "mini-imagenet": options.mini_imagenet}
        return Compute(options.device, options.chunk_size), Source(sources.get(data_of(run)))

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
    left = len(unanswered(questions, request.store, request.means))
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
    missing = carry_out(workers_named(options.workers), questions, store, request.means, say)
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
