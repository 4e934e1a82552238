"""The questions about policies: what they return in new tasks, how they learn, what adaptation does to their layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from msgspec import Struct

from innerloop.device import device_name
from innerloop.experiments.lab import Lab
from innerloop.rl.config import Settings
from innerloop.runs.policies import PolicyProbe, load_policy, probe_policy


class Returned(Struct, frozen=True):
    """Mean returns over new tasks."""

    before: float  # adaptation
    after: float
    interval_before: float | None  # half the 95 % interval over the tasks; none of a single one
    interval: float | None  # of `after`
    tasks: int


@dataclass(frozen=True)
class Returns:
    """What a policy returns in new tasks, before and after adaptation: its run's own test."""

    run: Settings

    answers: ClassVar[type] = Returned
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Settings, ...]:
        return (self.run,)

    @property
    def subject(self) -> Settings:
        return self.run

    def answer(self, lab: Lab) -> Returned:
        scores = lab.result(self.run)["test"][self.run.learning.algorithm]
        (before, *_, after), intervals = scores["returns"], scores["intervals"]
        return Returned(before, after, intervals[0], intervals[-1], scores["tasks"])


class ReturnCurve(Struct, frozen=True):
    """Mean returns over the tasks of every training iteration."""

    iteration: list[int]
    before: list[float]  # adaptation
    after: list[float]


@dataclass(frozen=True)
class ReturnsInTraining:
    """How a policy's returns rise."""

    run: Settings

    answers: ClassVar[type] = ReturnCurve
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Settings, ...]:
        return (self.run,)

    @property
    def subject(self) -> Settings:
        return self.run

    def answer(self, lab: Lab) -> ReturnCurve:
        lines = [line for line in lab.metrics(self.run) if "return_after" in line]
        before, after = ([line[f"return_{when}"] for line in lines] for when in ("before", "after"))
        return ReturnCurve([line["iteration"] for line in lines], before, after)


@dataclass(frozen=True)
class PolicyMovement:
    """What adaptation does to each layer of a policy: see `innerloop.rl.change` and `innerloop.rl.freezing`."""

    run: Settings
    tasks: int

    answers: ClassVar[type] = PolicyProbe
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Settings, ...]:
        return (self.run,)

    @property
    def subject(self) -> Settings:
        return self.run

    def answer(self, lab: Lab) -> PolicyProbe:
        lab.found_on.add(device_name(torch.device("cpu")))
        return probe_policy(load_policy(lab.store / self.run.name), tasks=self.tasks)
