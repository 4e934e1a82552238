"""Made-up answers, plausible and the same every time, and a made-up study."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from innerloop.experiments.answers import Kept
from innerloop.experiments.exhibits import Cell, Claim, Exhibit, Figure, Panel, Series, Table, accuracy
from innerloop.experiments.few_shot import (
    Accuracy,
    Curves,
    Learning,
    Likeness,
    Movement,
    Scored,
    Seconds,
    Timing,
)
from innerloop.experiments.questions import Question, name_of
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study
from innerloop.reuse.adaptation import Change
from innerloop.reuse.networks import Resemblance
from innerloop.runs.config import Spec

LAYERS = ("block1", "block2", "block3", "block4", "head")
QUALITY = {"maml": 46.9, "fomaml": 46, "anil": 46.7, "nil": 38.3, "multiclass": 39.7, "multitask": 26.5}
DEVICE = "NVIDIA H100 80GB HBM3"


def made_up(question: Question) -> Kept[Any]:
    """As a store would have it."""
    draw = random.Random(name_of(question))
    answers: dict[type, Callable[..., Any]] = {
        Accuracy: _accuracy, Movement: _movement, Likeness: _likeness, Curves: _curves, Timing: _timing
    }  # fmt: skip
    return kept(answers[type(question)](question, draw))


def kept(answer: Any, device: str = DEVICE) -> Kept[Any]:
    return Kept({}, answer, device, 3.2)


def score_of(accuracy: float, interval: float | None = 0.01, device: str = DEVICE) -> Kept[Any]:
    return kept(Scored(accuracy, interval, 600, "query"), device)


def _accuracy(asked: Accuracy, draw: random.Random) -> Scored:
    run = asked.run
    base = 32.9 if run.schedule.iterations == 0 else QUALITY[run.inner.algorithm] + (14 if run.problem.shot == 5 else 0)
    base += 47 if run.problem.data == "omniglot" else 0
    base = (base - 0.3 * asked.frozen + draw.gauss(0, 0.5)) / 100
    return Scored(min(base, 0.99), 0.008, run.problem.test_episodes, "query")


def _movement(asked: Movement, draw: random.Random) -> Change:
    rest = (0.99, 0.98, 0.96, 0.94, 0.32)
    alike = {layer: min(1.0, value + draw.gauss(0, 0.01)) for layer, value in zip(LAYERS, rest, strict=True)}
    moved = {layer: 0.1 + abs(draw.gauss(0, 0.05)) for layer in LAYERS[:-1]} | {"head": 1.2 + draw.gauss(0, 0.1)}
    return Change(alike, {k: v**2 for k, v in alike.items()}, moved, {}, dict.fromkeys(LAYERS, 1000), asked.episodes)


def _likeness(asked: Likeness, draw: random.Random) -> Resemblance:
    low = {"multiclass": 0.03, "multitask": 0.2}.get(
        asked.first.inner.algorithm, 0.0 if asked.first.schedule.iterations else 0.1
    )
    base = {layer: draw.uniform(0.4, 0.65) - low for layer in LAYERS}
    times = ("pre-pre", "pre-post", "post-pre", "post-post")
    cca = {when: {layer: value + draw.gauss(0, 0.01) for layer, value in base.items()} for when in times}
    cka = {when: {layer: 0.5 + 0.6 * value for layer, value in of.items()} for when, of in cca.items()}
    return Resemblance(cca, cka, {}, {}, asked.episodes)


def _curves(asked: Curves, draw: random.Random) -> Learning:
    run = asked.run
    steps = list(range(run.schedule.log_every, run.schedule.iterations + 1, run.schedule.log_every))
    checks = list(range(run.schedule.val_every, run.schedule.iterations + 1, run.schedule.val_every))
    top = QUALITY[run.inner.algorithm] / 100

    def learned(at: int) -> float:
        return 0.2 + (top - 0.2) * (1 - math.exp(-4 * at / run.schedule.iterations)) + draw.gauss(0, 0.01)

    seen = [learned(at) for at in steps]
    return Learning(steps, [1.9 - 1.4 * value for value in seen], seen, checks, [learned(at) - 0.02 for at in checks])


def _timing(asked: Timing, draw: random.Random) -> Seconds:
    quick = {"anil": 0.5, "fomaml": 0.55}.get(asked.run.inner.algorithm, 1) * (0.5 if asked.what == "inference" else 1)
    mean = 0.02 * asked.run.problem.shot * quick * draw.uniform(0.97, 1.03)
    return Seconds(mean, mean * 0.97, asked.batches, DEVICE)


RUN = Spec().where(data="glyphs", iterations=10)
ASKED = 'a <b>& "c"</b> | *d* _e_'  # must be shown as it is
WORTH = "Small & <quick>: what compares is the order."


def a_scale(seeds: int = 2, name: str = "small", *, judged: bool = True) -> Scale:
    """Scales of other names ask of other runs."""
    run = RUN if name == "small" else RUN.where(iterations=20)
    return Scale(name, seeds, WORTH, {"glyphs": run}, judged=judged)


def a_study(*exhibits: Exhibit, scales: tuple[Scale, ...] | None = None, **changes: Any) -> Study:
    return Study(
        **{
            "name": "made-up", "title": ASKED, "asks": "Is it so?", "exhibits": exhibits,
            "scales": scales or (a_scale(),), "command": "innerloop study made_up.py",
            "settings": lambda spec: {"data": spec.problem.data, "iterations": str(spec.schedule.iterations)},
        } | changes
    )  # fmt: skip


def a_table(*claims: Claim, **changes: Any) -> Table:
    """Two rows of accuracies and one of nothing; the seed is the repeat."""

    def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell | None:
        run = scale.problems["glyphs"].where(seed=repeat, shot=len(row), way=len(column))
        return None if row == "later" else accuracy(run)

    table = Table(
        name="table1", title=ASKED, about="accuracies", rows=("x", "xx", "later"), columns=("five-", ASKED),
        published={("x", "five-"): (50.0, 0.04), ("later", ASKED): (-7.25, None)}, cell=cell, claims=claims,
    )  # fmt: skip
    return replace(table, **changes)


def a_figure(*claims: Claim) -> Figure:
    """One panel of each kind, with a series for every seed; there is no picture without seed 0."""

    def panels(answers: Mapping[Any, Any]) -> tuple[Panel, ...]:
        height = {seed: answer.accuracy for seed, answer in answers.items()}
        height[0]
        layers, many = ("Conv1", "Head"), tuple(range(40))
        seeds = tuple(Series(f"MAML, seed {seed}", layers, (1, y), (0.1, 0.1)) for seed, y in height.items())
        curve = Series("ANIL training", many, tuple(x / 50 for x in many), (0.1,) * 40)
        cloud = Series("Random $x$", (0.1, 0.2, 0.4), (0.1, 0.25, 0.38))
        empty = Series("empty", (), ())
        return (
            Panel("lines", "layer", "CCA", seeds),
            Panel("curve", "iteration", "accuracy %", (curve,)),
            Panel("bars", "layer", "distance", (Series("iteration 0", layers, (1, 2)), empty), kind="bars"),
            Panel("nothing", "", "", (empty,)),
            Panel("<clouds>", "before", "after", (cloud,), kind="against"),
        )

    return Figure(
        name="figure2", title="Likeness", about="shapes", published="All near 1.",
        asks=lambda scale: {seed: Accuracy(RUN.where(seed=seed), nil=True) for seed in range(scale.seeds)},
        panels=panels, claims=claims,
    )  # fmt: skip
