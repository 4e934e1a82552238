"""Your own tasks: a function from a task to a gymnasium environment. Needs `gymnasium`, and no mujoco."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.rl.environment import Actions, Tasks


class GymTasks:
    """Gymnasium environments as a family of tasks, stepped as one vector environment.

    A policy's numbers in [-1, 1] are spread over the bounds of a bounded action, and what lies outside is clipped.

    Args:
        make: from a task to its environment, which must have observations of numbers (a Box), and actions that are
            numbers (a Box) or choices (Discrete); all tasks the same.
        sample: from a count and a generator to so many tasks.
        horizon: steps after which every trajectory ends, if its environment does not end it before.
        title: what progress and reports call the family.
        vector: how the environments run; `gymnasium.vector.AsyncVectorEnv` gives each a process of its own.

    Raises:
        ValueError: gymnasium is missing, `make` fails, or observations or actions are of another kind.
    """

    def __init__(
        self,
        make: Callable[[Any], Any],
        sample: Callable[[int, torch.Generator], Tasks],
        *,
        horizon: int,
        title: str = "tasks",
        vector: Callable[..., Any] | None = None,
    ) -> None:
        try:
            import gymnasium
        except ImportError as error:
            raise ValueError("GymTasks needs gymnasium, which is not installed: pip install gymnasium") from error
        self.make, self._sample, self.horizon, self.title = make, sample, horizon, title
        self._vector = vector or gymnasium.vector.SyncVectorEnv
        one = self._made(sample(1, torch.Generator().manual_seed(0))[0])
        seen, done = one.observation_space, one.action_space
        one.close()
        if not isinstance(seen, gymnasium.spaces.Box):
            raise ValueError(
                f"observations of {title} are {type(seen).__name__}, and a policy takes rows of numbers (Box): wrap "
                "the environment in gymnasium.wrappers.FlattenObservation"
            )
        if not isinstance(done, gymnasium.spaces.Box | gymnasium.spaces.Discrete):
            raise ValueError(
                f"actions of {title} are {type(done).__name__}, and a policy gives numbers (Box) or choices "
                "(Discrete): wrap the environment in a gymnasium.ActionWrapper"
            )
        self.observations = int(np.prod(seen.shape))
        self._space: Any = done
        discrete = isinstance(done, gymnasium.spaces.Discrete)
        self.actions = Actions(int(done.n) if discrete else int(np.prod(done.shape)), discrete)
        self._running: tuple[Tasks, int, Any] | None = None

    def sample(self, count: int, generator: torch.Generator) -> Tasks:
        """`count` tasks."""
        return self._sample(count, generator)

    def _made(self, task: Any) -> Any:
        try:
            return self.make(task)
        except Exception as error:
            raise ValueError(
                f"the function that makes environments of {self.title} failed for the task {task!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _environments(self, tasks: Tasks, copies: int) -> Any:
        """The same ones where the same tasks are tried again, as after adaptation."""
        if self._running is None or self._running[0] is not tasks or self._running[1] != copies:
            self.close()
            makers = [lambda task=task: self._made(task) for task in tasks for _ in range(copies)]
            self._running = tasks, copies, self._vector(makers)
        return self._running[2]

    def reset(self, tasks: Tasks, copies: int, generator: torch.Generator) -> Tensor:
        environments = self._environments(tasks, copies)
        self._shape = len(tasks), copies
        observation, _ = environments.reset(seed=int(torch.randint(2**31, (), generator=generator)))
        return self._rows(observation)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self._running is not None
        observation, reward, terminated, truncated, _ = self._running[2].step(self._theirs(actions.flatten(0, 1)))
        ended = torch.from_numpy(terminated | truncated).view(self._shape)
        return self._rows(observation), torch.from_numpy(reward).float().view(self._shape), ended

    def _theirs(self, actions: Tensor) -> Any:
        """Actions as the environments take them."""
        space = self._space
        if self.actions.discrete:
            return actions.numpy() + space.start
        own = actions.numpy().reshape(-1, *space.shape)
        half = (space.high - space.low) / 2
        spread = np.where(np.isfinite(half), space.low + (own.clip(-1, 1) + 1) * half, own)
        return spread.clip(space.low, space.high).astype(space.dtype)

    def _rows(self, observation: Any) -> Tensor:
        return torch.from_numpy(np.asarray(observation, np.float32)).reshape(*self._shape, -1)

    def close(self) -> None:
        """End the environments."""
        if self._running is not None:
            self._running[2].close()
        self._running = None
