"""Meta-RL as what the trainer of every run trains: one outer step, one measurement, one state to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from innerloop.rl.config import Settings
from innerloop.rl.meta import Collected, Improvement, Seconds, collect, improve


class MetaRl:
    """A policy, the tasks it is trained on, and what it did in the last ones.

    A step improves the policy from what it did last, and then tries it in new tasks: so what is measured is the
    policy that a checkpoint holds.
    """

    def __init__(self, settings: Settings, *, threads: int = 1) -> None:
        self.settings = settings
        self.environment = settings.environment(threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = settings.policy(self.environment)
        self.inner = settings.learning.inner()
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._before = self.generator.get_state()  # from which `_seen` can be had again
        self._seen: Collected | None = None
        self.seconds = Seconds()

    @property
    def title(self) -> str:
        return f"{self.environment.title} {self.settings.learning.algorithm}"

    def _try(self) -> Collected:
        learning = self.settings.learning
        self._before = self.generator.get_state()
        tasks = self.environment.sample(learning.tasks, self.generator)
        return collect(
            self.network,
            self.environment,
            tasks,
            self.inner,
            self.generator,
            trajectories=learning.trajectories,
            advantage=learning.advantage,
            seconds=self.seconds,
        )

    def seen(self) -> Collected:
        """What the policy as it is now did in its last tasks."""
        self._seen = self._seen or self._try()
        return self._seen

    def step(self, number: int) -> Mapping[str, Tensor]:  # noqa: ARG002  every step is like the first
        self.seconds = Seconds()
        done = improve(self.network, self.seen(), self.inner, self.settings.learning.trpo, seconds=self.seconds)
        self._seen = self._try()
        return {name: torch.tensor(value) for name, value in {**self.returns(), **_told(done)}.items()}

    def returns(self) -> dict[str, float]:
        """Mean returns of the policy as it is now, before and after adaptation."""
        means = self.seen().returns().mean(1).tolist()
        return {"return_before": means[0], "return_after": means[-1]}

    def state(self) -> dict[str, Tensor]:
        """Where the random numbers of the last trial began: with the weights, all that it takes to repeat it."""
        self.seen()
        return {"generator": self._before.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])
        self._seen = None


def _told(done: Improvement) -> dict[str, float]:
    accepted = done.accepted
    if accepted is None:
        return {"kl": 0.0, "surrogate": 0.0, "tried": math.nan}
    return {"kl": accepted.kl, "surrogate": accepted.change, "tried": float(accepted.tried)}
