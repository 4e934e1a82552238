"""Meta-RL as a problem for the trainer: a policy, tasks to try it in, TRPO, returns before and after adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.device import pick_device
from innerloop.rl.config import Settings, as_dict, from_dict
from innerloop.rl.environment import Environment
from innerloop.rl.meta import Collected, collect, improve
from innerloop.rl.policy import Policy
from innerloop.rl.reuse import Change, change, freezing
from innerloop.runs.checkpoint import load_checkpoint, load_weights
from innerloop.runs.load import best_of
from innerloop.runs.problem import Validation
from innerloop.runs.schedule import Logging, Schedule
from innerloop.runs.trainer import train

_TEST = 2**40  # added to the seed of tests, which thus have tasks that no training begins with


def train_policy(
    settings: Settings, out: Path, logging: Logging | None = None, *, threads: int = 1, device: str = "cpu"
) -> dict[str, Any]:
    """Meta-train a policy in the folder `out`, going on where an earlier start stopped; then test the best one.

    The folder holds what `trainer.train` says; the content of result.json is returned.

    Raises:
        ValueError: the folder holds another run, the simulator is missing, or the policy diverged.
        OSError: the folder cannot be written, or the disk is full; the last checkpoint stays good.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    schedule = Schedule(settings.iterations, val_every=1, log_every=1, keep=settings.keep)
    return train(lambda _: MetaRl(settings, threads=threads, device=device), schedule, out, as_dict(settings), logging)


class MetaRl:
    """A `Problem`: a policy, the tasks it is trained on, and what it did in the last ones.

    A step improves the policy by what it did last, and then tries it in new tasks: what is measured, and what the best
    policy is chosen by, is thus the policy that a checkpoint holds.

    Args:
        settings: of the run.
        threads: of the simulator.
        device: of the policy and of all that is computed with it; tasks are simulated on the CPU.

    Raises:
        ValueError: the simulator is missing, or too old, or the device is not there.
    """

    remedy = "try a lower --lr or --max-kl"

    def __init__(self, settings: Settings, *, threads: int = 1, device: str = "cpu") -> None:
        self.settings, self.title = settings, settings.title
        self.environment = settings.environment(threads)
        self.network = first_policy(settings, self.environment).to(pick_device(device))
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._began = self._generator.get_state()  # where `_seen` can be had from again
        self._seen: Collected | None = None

    def seen(self) -> Collected:
        """What the policy as it is now did in its last tasks."""
        if self._seen is None:
            self._began = self._generator.get_state()
            tasks = self.environment.sample(self.settings.learning.meta_batch, self._generator)
            self._seen = _tried(self.settings, self.network, self.environment, tasks, self._generator)
        return self._seen

    def step(self, number: int) -> dict[str, Tensor]:  # noqa: ARG002  every step is like the first
        """Returns of the improved policy, before and after adaptation, and how far it was moved."""
        accepted = improve(
            self.network, self.seen(), self.settings.learning.inner(), self.settings.learning.trpo
        ).accepted
        self._seen = None
        before, *_, after = self.seen().returns().mean(1)
        change, kl, tried = (accepted.change, accepted.kl, accepted.tried) if accepted else (0.0, 0.0, 0)
        moved = {"kl": kl, "surrogate": change, "tried": tried}  # tried 0: no step was accepted
        return {"return_before": before, "return_after": after, **{k: before.new_tensor(v) for k, v in moved.items()}}

    def validate(self) -> Validation:
        """The training return after adaptation: what the paper's best of 500 iterations is chosen by."""
        after = float(self.seen().returns()[-1].mean())
        return Validation(after, {"val_return": after})

    def test(self) -> dict[str, Any]:
        """Returns in new tasks, after each inner step."""
        learning = self.settings.learning
        scores = evaluate_policy(
            self.settings, self.network, tasks=self.settings.test_tasks, environment=self.environment
        )
        return {learning.algorithm: scores}

    def state(self) -> dict[str, Tensor]:
        """Where the random numbers of the last trial began: with the weights, all that it takes to repeat it."""
        self.seen()
        return {"generator": self._began.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put it back; the trial is repeated when it is asked for."""
        self._generator.set_state(state["generator"])
        self._seen = None

    def metadata(self) -> dict[str, Any]:
        """The settings, and the simulator's version, which decides the last bits."""
        return {"rl": as_dict(self.settings), "simulator": getattr(self.environment, "simulator", None)}


def first_policy(settings: Settings, environment: Environment) -> Policy:
    """The policy before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return settings.policy(environment)


def evaluate_policy(
    settings: Settings,
    policy: Policy,
    *,
    tasks: int = 40,
    steps: int | None = None,
    seed: int = 0,
    environment: Environment | None = None,
) -> dict[str, Any]:
    """Returns in new tasks, before and after each inner step, as JSON; the same tasks for the same seed.

    Each inner step learns from trajectories of its own, of the policy before it.

    Args:
        settings: of the run that trained it.
        policy: what to test.
        tasks: how many.
        steps: inner steps; by default as in training.
        seed: of the tasks.
        environment: to go on with one that is there.
    """
    environment = environment or settings.environment()
    generator = torch.Generator().manual_seed(_TEST + seed)
    returns = _tried(settings, policy, environment, environment.sample(tasks, generator), generator, steps).returns()
    interval = 1.96 * returns.std(1) / tasks**0.5 if tasks > 1 else returns.new_full((len(returns),), torch.nan)
    return {
        "returns": returns.mean(1).tolist(),  # after 0, 1, ... steps
        "intervals": [None if x != x else x for x in interval.tolist()],
        "tasks": tasks,
        "trajectories": settings.learning.trajectories,
        "each": returns.tolist(),
    }


def _tried(
    settings: Settings,
    policy: Policy,
    environment: Environment,
    tasks: Any,
    generator: torch.Generator,
    steps: int | None = None,
) -> Collected:
    learning = settings.learning
    return collect(
        policy,
        environment,
        tasks,
        learning.inner() if steps is None else replace(learning.inner(), steps=steps),
        generator,
        trajectories=learning.trajectories,
        advantage=learning.advantage,
    )


class TrainedPolicy(NamedTuple):
    """A policy with the settings that it was trained by."""

    policy: Policy
    settings: Settings
    environment: Environment
    iteration: int


def load_policy(path: Path, *, threads: int = 1) -> TrainedPolicy:
    """Read best.safetensors of a meta-RL run, or the run's folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is cut off, or of another kind of run.
    """
    path = best_of(path)
    if not path.exists():
        raise FileNotFoundError(f"no trained policy at {path}: train one with innerloop rl train")
    tensors, metadata = load_checkpoint(path)
    if "rl" not in metadata:
        raise ValueError(f"{path} holds no policy of a meta-RL run: innerloop rl train makes one")
    settings = from_dict(metadata["rl"])
    environment = settings.environment(threads)
    policy = settings.policy(environment)
    load_weights(policy, tensors, path)
    return TrainedPolicy(policy, settings, environment, metadata["iteration"])


@dataclass(frozen=True)
class PolicyProbe:
    """What adaptation does to a policy."""

    change: Change
    freezing: list[list[float]]  # mean returns before and after adaptation, the first 0, 1, ... layers frozen


def probe_policy(trained: TrainedPolicy, *, tasks: int = 40, seed: int = 0) -> PolicyProbe:
    """Freezing, CCA, CKA and weight distances in new tasks."""
    learning = trained.settings.learning
    where = trained.policy, trained.environment, learning.inner(), _TEST + seed
    amount: Any = {"tasks": tasks, "trajectories": learning.trajectories, "advantage": learning.advantage}
    frozen = [returns.mean(1).tolist() for returns in freezing(*where, **amount)]
    return PolicyProbe(change(*where, **amount), frozen)
