"""The questions about few-shot networks: how accurate, how they change, how alike they are, how they learn, how fast.

Each is a `Question`; what it asks for comes first, what may differ from the usual after it.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from msgspec import Struct

from innerloop.algorithms import freeze
from innerloop.data import data_set
from innerloop.evaluation import evaluate
from innerloop.experiments.lab import Lab
from innerloop.inner import InnerLoop
from innerloop.outer import meta_gradient
from innerloop.params import layers_of
from innerloop.predictors import NIL, Predictor
from innerloop.reuse.adaptation import Change, change
from innerloop.reuse.networks import Resemblance, resemblance
from innerloop.runs.config import Spec
from innerloop.runs.images import score_dict
from innerloop.tasks import Episodes

_WARM_UP = 2  # calls of a timing that do not count


class Scored(Struct, frozen=True):
    """An accuracy over test episodes, in fractions."""

    accuracy: float
    interval: float | None  # half the 95 % interval; none of a single episode
    episodes: int
    statistics: str  # whose batch statistics normalise


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy of a network."""

    run: Spec
    frozen: int = 0  # layers, from the first, that do not adapt in the test
    nil: bool = False  # test with NIL instead of the run's own inner loop
    shot: int | None = None  # support images a class, where the test has others than the training
    at: int | None = None  # iterations of training, instead of the checkpoint that validation chose
    episodes: int | None = None  # of the test, where it has others than the run's own

    answers: ClassVar[type] = Scored
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Spec, ...]:
        return (self.run,)

    @property
    def subject(self) -> Spec:
        return self.run

    def answer(self, lab: Lab) -> Scored:
        run = self.run
        if self.tested_by_its_run:
            return _score(lab.result(run)["test"]["nil" if self.nil else run.inner.algorithm])
        asked = run.where(shot=self.shot or run.problem.shot)
        episodes = lab.test_episodes(asked, self.episodes or run.problem.test_episodes, asked.problem.queries)
        model = lab.network(run, self.at)
        found = evaluate(model, episodes, self.predictor(model), chunk_size=lab.compute.chunk_size, every_step=False)
        return _score(dict(score_dict(found)))

    @property
    def tested_by_its_run(self) -> bool:
        """Whether the run's own test at the end of its training has asked the same."""
        problem = self.run.problem
        same = self.frozen == 0 and self.at is None
        same = same and self.shot in (None, problem.shot) and self.episodes in (None, problem.test_episodes)
        return same and (self.nil or bool(self.run.inner.test_rule().adapt))

    def predictor(self, model: torch.nn.Module) -> Predictor:
        """What is tested."""
        body = layers_of(model)[: self.frozen]
        return NIL(way=self.run.problem.way) if self.nil else freeze(self.run.inner.test_rule(), *body)


def _score(score: Mapping[str, Any]) -> Scored:
    return Scored(score["accuracy"], score["interval"], score["episodes"], score["statistics"])


@dataclass(frozen=True)
class Movement:
    """How far the inner loop moves each layer, over test tasks: see `innerloop.change`."""

    run: Spec
    episodes: int
    at: int | None = None  # iterations of training, 0 for the first weights; None for what validation chose
    query: int = 15  # images a class on which layers are compared

    answers: ClassVar[type] = Change
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Spec, ...]:
        return (self.run,)

    @property
    def subject(self) -> Spec:
        return self.run

    def answer(self, lab: Lab) -> Change:
        model = lab.network(self.run, self.at)
        episodes = lab.single_tasks(self.run, self.episodes, self.query)
        with _quiet():
            return change(model, episodes, self.run.inner.test_rule())


@dataclass(frozen=True)
class Likeness:
    """How alike two networks see the same test tasks: see `innerloop.resemblance`.

    Where the two have no inner loop in common (ANIL and MAML, or one without any), "pre-pre" alone is there, and not
    for the head.
    """

    first: Spec
    second: Spec
    episodes: int
    query: int = 15  # images a class on which layers are compared

    answers: ClassVar[type] = Resemblance
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Spec, ...]:
        return (self.first, self.second)

    @property
    def subject(self) -> Spec:
        return self.first

    def answer(self, lab: Lab) -> Resemblance:
        one, other = lab.network(self.first), lab.network(self.second)
        rule = self.common_rule()
        layers = [name for name in layers_of(one) if rule or name != "head"]
        episodes = lab.single_tasks(self.first, self.episodes, self.query)
        with _quiet():
            return resemblance(one, other, episodes, rule, layers=layers)

    def common_rule(self) -> InnerLoop | None:
        """The inner loop that both networks are tested with, if it is the same."""
        rule = self.first.inner.test_rule()
        return rule if rule.adapt and rule == self.second.inner.test_rule() else None


class Learning(Struct, frozen=True):
    """Training and validation over a training: one value a line of metrics, and one a validation."""

    iteration: list[int]
    loss: list[float]
    accuracy: list[float]
    val_iteration: list[int]
    val_accuracy: list[float]


@dataclass(frozen=True)
class Curves:
    """The training curves of a run."""

    run: Spec

    answers: ClassVar[type] = Learning
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Spec, ...]:
        return (self.run,)

    @property
    def subject(self) -> Spec:
        return self.run

    def answer(self, lab: Lab) -> Learning:
        lines = lab.metrics(self.run)
        trained = [line for line in lines if "loss" in line]
        tested = [line for line in lines if "val_accuracy" in line]
        return Learning(
            *([line[key] for line in trained] for key in ("iteration", "loss", "accuracy")),
            *([line[key] for line in tested] for key in ("iteration", "val_accuracy")),
        )


class Seconds(Struct, frozen=True):
    """How long a call takes."""

    mean: float
    median: float
    batches: int  # calls
    device: str


@dataclass(frozen=True)
class Timing:
    """Seconds for one task and one query image a class (the paper's Appendix C.5); needs no trained network."""

    run: Spec
    what: Literal["training", "inference"]
    batches: int

    answers: ClassVar[type] = Seconds
    times_the_device: ClassVar[bool] = True

    @property
    def runs(self) -> tuple[Spec, ...]:
        return ()  # time does not depend on the weights

    @property
    def subject(self) -> Spec:
        return self.run

    def answer(self, lab: Lab) -> Seconds:
        run, device = self.run, lab.device
        shape, episodes = random_episodes(run, 1, 1, device)
        model = run.build(shape).to(device)
        seconds: list[float] = []
        for _ in range(_WARM_UP + self.batches):
            begun = time.perf_counter()
            if self.what == "training":
                model.zero_grad()
                meta_gradient(model, episodes, run.inner.rule())
            else:
                with torch.no_grad():
                    run.inner.test_rule()(model, episodes)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begun)
        del seconds[:_WARM_UP]
        (name,) = lab.found_on
        return Seconds(statistics.fmean(seconds), statistics.median(seconds), len(seconds), name)


def random_episodes(run: Spec, tasks: int, query: int, device: torch.device) -> tuple[tuple[int, int, int], Episodes]:
    """Noise in the shape of a run's images, (c, h, w), and as episodes with `query` query images a class."""
    problem = run.problem
    channels, size = data_set(problem.data).channels or 3, problem.size
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(tasks, problem.way * count, size, size, channels, generator=generator).movedim(-1, 2)
        return x.to(device), torch.arange(problem.way, device=device).repeat_interleave(count).expand(tasks, -1)

    return (channels, size, size), Episodes(*part(problem.shot), *part(query))


def _quiet() -> warnings.catch_warnings[None]:
    """Inside, no warning that a similarity is near noise: the answer says what chance scores."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
