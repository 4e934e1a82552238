"""The paper's other half of Table 2: MAML and ANIL on policies, and what the paper does not ask of them.

A study of its own, for it needs mujoco and many hours: `innerloop rl paper`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from itertools import product
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

from innerloop.experiments.exhibits import Cell, Claim, Figure, Panel, Panels, Place, Series, Table
from innerloop.experiments.panel import curve, mean_line
from innerloop.experiments.policies import PolicyMovement, ReturnCurve, Returned, Returns, ReturnsInTraining
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study
from innerloop.paper.published import grid
from innerloop.rl.config import Algorithm, Network, Settings
from innerloop.runs.policies import PolicyProbe

TASKS = {
    "HalfCheetah-Direction": Settings("cheetah-direction"),
    "HalfCheetah-Velocity": Settings("cheetah-velocity"),
    "2D-Navigation": Settings("navigation"),
}
ALGORITHMS: dict[str, Algorithm] = {"MAML": "maml", "ANIL": "anil"}
BEFORE = ", before adaptation"
LAYERS = ("layer1", "layer2", "head")


class Asked(NamedTuple):
    """The name of a question."""

    task: str
    algorithm: str  # MAML or ANIL
    seed: int


def training(scale: Scale, asked: Asked) -> Settings:
    """The training of one policy."""
    base: Settings = scale.problems[asked.task]
    learning = replace(base.learning, algorithm=ALGORITHMS[asked.algorithm])
    return replace(base, seed=asked.seed, learning=learning)


def every(scale: Scale, *algorithms: str) -> list[Asked]:
    """All policies, or those of some algorithms."""
    return [Asked(*each) for each in product(TASKS, algorithms or ALGORITHMS, range(scale.seeds))]


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell:
    """The return before or after adaptation."""
    before, name = row.endswith(BEFORE), row.removesuffix(BEFORE)

    def read(answer: Returned) -> float:
        return answer.before if before else answer.after

    def interval(answer: Returned) -> float | None:
        return answer.interval_before if before else answer.interval

    return Cell((Returns(training(scale, Asked(column, name, repeat))),), read, interval)


def _close(mean: Mapping[Place, float]) -> bool:
    pairs = [(mean["MAML", column], mean["ANIL", column]) for column in TASKS]
    return all(maml - anil <= 0.1 * abs(maml) for maml, anil in pairs)


def _pays(mean: Mapping[Place, float]) -> bool:
    return all(mean[name, column] > mean[name + BEFORE, column] for name, column in product(ALGORITHMS, TASKS))


_ROWS = (*ALGORITHMS, *(name + BEFORE for name in ALGORITHMS))
TABLE = Table(
    name="table2",
    title="ANIL against MAML: returns of policies",
    about="Mean return over new tasks of policies trained by MAML and by ANIL, after one inner step from 20 "
    "trajectories, and before it.",
    rows=_ROWS,
    columns=tuple(TASKS),
    published=grid(_ROWS, tuple(TASKS), "170.4±21.0 -139.0±18.9 -20.3±3.2 363.2±14.8 -120.9±6.3 -20.1±2.3 - - - - - -"),
    cell=cell,
    unit="mean return",
    claims=(
        Claim(
            "ANIL matches the performance of MAML in reinforcement learning (Table 2).",
            "ANIL's return is at most a tenth of MAML's below it, in each of the three environments",
            _close,
        ),
        Claim(
            "Adaptation pays: a hypothesis of ours, for the paper tells no return before it (Table 2).",
            "the mean return after the inner step is above that before it, for both algorithms everywhere",
            _pays,
        ),
    ),
)


def curves(scale: Scale) -> dict[Hashable, Question]:
    """Of every policy."""
    return {asked: ReturnsInTraining(training(scale, asked)) for asked in every(scale)}


def curve_panels(answers: Mapping[Any, ReturnCurve]) -> tuple[Panel, ...]:
    """A panel a task: returns before and after adaptation, averaged over seeds."""
    found: list[Panel] = []
    for task in TASKS:
        lines: list[Series] = []
        for name in ALGORITHMS:
            of = [answer for asked, answer in answers.items() if (asked.task, asked.algorithm) == (task, name)]
            if of:
                lines.append(curve(name, of[0].iteration, [answer.after for answer in of]))
                lines.append(curve(name + BEFORE, of[0].iteration, [answer.before for answer in of]))
        found.append(Panel(task, "training iteration", "mean return", tuple(lines)))
    return tuple(found)


LEARNING = Figure(
    name="learning",
    title="Returns of policies over training",
    about="Mean return over the tasks of each iteration, before and after adaptation, averaged over blocks of "
    "iterations; lines are means over seeds, bands their standard deviations.",
    asks=curves,
    panels=curve_panels,
)


def moves(scale: Scale) -> dict[Hashable, Question]:
    """Of every policy that MAML trained."""
    return {asked: PolicyMovement(training(scale, asked), scale.counts["compared"]) for asked in every(scale, "MAML")}


def move_panels(answers: Mapping[Any, PolicyProbe]) -> tuple[Panel, ...]:
    """What each layer says, how far it moves, and what is lost without it; a line a task, averaged over seeds."""
    of = {task: [answer for asked, answer in answers.items() if asked.task == task] for task in TASKS}

    def lines(values: Any) -> tuple[Series, ...]:
        return tuple(mean_line(task, LAYERS, [values(each) for each in found]) for task, found in of.items() if found)

    gains = tuple(
        mean_line(task, ("none", "layer1", "layer1,2"), [_kept(each) for each in found])
        for task, found in of.items()
        if found
    )
    return (
        Panel("CCA before and after adaptation", "layer", "similarity", lines(_of("cca")), y_range=(0, 1.02)),
        Panel("CKA before and after adaptation", "layer", "similarity", lines(_of("cka")), y_range=(0, 1.02)),
        Panel("Weights", "layer", "distance moved / length", lines(_moved)),
        Panel("Layers frozen in the test", "frozen", "share of the gain kept", gains),
    )


def _of(kind: str) -> Any:
    return lambda probe: [getattr(probe.change, kind)[layer] for layer in LAYERS]


def _moved(probe: PolicyProbe) -> list[float]:
    return [probe.change.distance[layer] / probe.change.length[layer] for layer in LAYERS]


def _kept(probe: PolicyProbe) -> list[float]:
    """What is left of the return that adaptation brings, with the first 0, 1 and 2 layers frozen."""
    gains = [returns[-1] - returns[0] for returns in probe.freezing]
    return [gain / gains[0] for gain in gains] if gains[0] else [0.0 for _ in gains]


def _reused(panels: Panels) -> bool:
    return fmean(line.y[-1] for line in panels["Layers frozen in the test"].values()) >= 0.9


REUSE = Figure(
    name="policies",
    title="Is it feature reuse in policies, too?",
    about="Policies that MAML trained, in new tasks: mean CCA and linear CKA between each layer's outputs before and "
    "after the inner step, in the states that the adapted policy visits; how far the layer's weights move; and what is "
    "left of the gain in return when the first layers are frozen in the inner step.",
    asks=moves,
    panels=move_panels,
    claims=(
        Claim(
            "Policies reuse features as image networks do (a hypothesis: the paper freezes no policy).",
            "with all but the head frozen in the test, at least nine tenths of the gain are left, averaged over tasks",
            _reused,
        ),
    ),
)


def settings(problem: Settings) -> dict[str, str]:
    """What the report lists of a problem's settings."""
    learning = problem.learning
    return {
        "iterations": f"{problem.iterations:,}",
        "tasks an iteration": str(learning.meta_batch),
        "trajectories a task": str(learning.trajectories),
        "hidden": "-".join(map(str, problem.network.hidden)),
        "test tasks": str(problem.test_tasks),
    }


def _smoke(base: Settings) -> Settings:
    learning = replace(base.learning, meta_batch=3, trajectories=4)
    return replace(base, horizon=8, network=Network(hidden=(8, 8)), learning=learning, iterations=3, test_tasks=4)


def _small(base: Settings) -> Settings:
    if base.task == "navigation":
        return replace(base, iterations=60)
    return replace(base, iterations=60, learning=replace(base.learning, meta_batch=10))


def _scale(name: str, seeds: int, about: str, make: Any, compared: int, *, judged: bool = True) -> Scale:
    problems = MappingProxyType({task: make(base) for task, base in TASKS.items()})
    return Scale(name, seeds, about, problems, MappingProxyType({"compared": compared}), judged)


STUDY = Study(
    name="rl-paper",
    title="Feature reuse in policies?",
    asks="Does ANIL, whose inner loop changes the head alone, return as much as MAML in reinforcement learning, and "
    "does the inner loop of a policy reuse its features?",
    exhibits=(TABLE, LEARNING, REUSE),
    scales=(
        _scale(
            "smoke", 2, "Seconds of training: these numbers only show that everything runs.", _smoke, 3, judged=False
        ),
        _scale(
            "small",
            2,
            "60 iterations instead of 500, and ten tasks an iteration for the cheetah instead of 40: its returns are "
            "far below the paper's.",
            _small,
            20,
        ),
        _scale("paper", 3, "The paper's own settings; what it leaves open is as in 493e677.", lambda base: base, 40),
    ),
    settings=settings,
    reproduces="Aniruddh Raghu, Maithra Raghu, Samy Bengio and Oriol Vinyals: “Rapid Learning or Feature Reuse? "
    "Towards Understanding the Effectiveness of MAML”, ICLR 2020, arXiv:1909.09157",
    link="https://arxiv.org/abs/1909.09157",
    command="innerloop rl paper",
)
"""Table 2's columns of reinforcement learning, and what adaptation does to a policy."""
