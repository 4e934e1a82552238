"""A meta-RL run's settings, nested and frozen; the defaults are the paper's (`anil-paper`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from innerloop.rl.options import Activation, Advantage, Trpo

if TYPE_CHECKING:  # settings are read without torch; what they build imports it
    from innerloop.inner import InnerLoop
    from innerloop.rl.environment import Environment
    from innerloop.rl.policy import Policy

Task = Literal["navigation", "cheetah-direction", "cheetah-velocity"]
TASKS: tuple[str, ...] = get_args(Task)
Algorithm = Literal["maml", "anil", "fomaml"]


@dataclass(frozen=True)
class Network:
    """The policy."""

    hidden: tuple[int, ...] = (100, 100)
    """width of each hidden layer"""
    activation: Activation = "relu"
    """relu (493e677, cbfinn/maml_rl), or tanh (pytorch-maml-rl since January 2020)"""
    std: float = 1.0
    """standard deviation of the actions before training"""


@dataclass(frozen=True)
class Learning:
    """The inner loop and the outer one."""

    algorithm: Algorithm = "maml"
    steps: int = 1
    """inner steps"""
    lr: float = 0.1
    """inner step size"""
    log_std: bool = False
    """ANIL: the head has the actions' standard deviation, too. The paper does not say; MAML adapts it always"""
    meta_batch: int = 40
    """tasks of an iteration"""
    trajectories: int = 20
    """of each task, before and after each inner step"""
    advantage: Advantage = field(default_factory=Advantage)
    trpo: Trpo = field(default_factory=Trpo)

    def inner(self) -> InnerLoop:
        """How a task is learnt."""
        from innerloop.inner import InnerLoop

        head = ("head.*", "log_std") if self.log_std else ("head.*",)
        adapt = head if self.algorithm == "anil" else ("*",)
        return InnerLoop(adapt, self.steps, self.lr, first_order=self.algorithm == "fomaml")


@dataclass(frozen=True)
class Settings:
    """What a run learns, and how."""

    task: Task
    """navigation, cheetah-direction or cheetah-velocity"""
    seed: int = 0
    horizon: int | None = None
    """steps of a trajectory; by default 100 in navigation, and 200 with the cheetah as in 493e677"""
    action_scale: float = 1.0
    """what an action is multiplied by before it is clipped: cbfinn/maml_rl has 0.1 in navigation, and pytorch-maml-rl
    since January 2020 0.1 with the cheetah"""
    network: Network = field(default_factory=Network)
    learning: Learning = field(default_factory=Learning)
    iterations: int = 500
    """outer steps; the best policy by its training returns is kept"""
    keep: int = 0
    """iterations between policies that are kept for later analyses; 0 keeps none"""
    test_tasks: int = 40
    """new tasks that the best policy is tested on"""

    @property
    def title(self) -> str:
        return f"{self.task} {self.learning.algorithm}"

    @property
    def key(self) -> str:
        """Eight hexadecimal digits: of the task, and of all settings that are not as by default."""
        ours, default = as_dict(self), as_dict(Settings(self.task))
        other = {name: value for name, value in ours.items() if value != default[name]}
        text = msgspec.json.encode({"task": self.task, **other}, order="sorted")
        return hashlib.sha256(text).hexdigest()[:8]

    @property
    def name(self) -> str:
        """The title, the seed and the key."""
        return f"{self.title.replace(' ', '-')}-seed{self.seed}-{self.key}"

    def environment(self, threads: int = 1) -> Environment:
        """The tasks; the cheetah is simulated on so many threads.

        Raises:
            ValueError: the simulator is missing, or too old.
        """
        if self.task == "navigation":
            from innerloop.rl.navigation import Navigation

            return Navigation(self.horizon or 100, scale=self.action_scale)
        from innerloop.rl.half_cheetah import HalfCheetah

        goal = "direction" if self.task == "cheetah-direction" else "velocity"
        return HalfCheetah(goal, self.horizon or 200, scale=self.action_scale, threads=threads)

    def policy(self, environment: Environment) -> Policy:
        """The untrained policy."""
        from innerloop.rl.policy import Policy

        network = self.network
        return Policy(environment.observations, environment.actions, network.hidden, network.activation, network.std)


def as_dict(settings: Settings) -> dict[str, Any]:
    """As JSON holds it."""
    return msgspec.to_builtins(settings)


def from_dict(values: dict[str, Any]) -> Settings:
    """Back from JSON.

    Raises:
        ValueError: it is no such settings.
    """
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise ValueError(f"these are no settings of a meta-RL run ({error})") from error
