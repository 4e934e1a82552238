"""A user's own tasks: gymnasium environments by a function from a task."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.rl.gym import GymTasks
from innerloop.rl.meta import collect, improve
from innerloop.rl.policy import Policy

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium")


def pendulum(gravity):
    return gymnasium.make("Pendulum-v1", g=float(gravity))


def cart_pole(length):
    environment = gymnasium.make("CartPole-v1")
    environment.unwrapped.length = float(length)
    return environment


def between(low, high):
    return lambda count, generator: low + (high - low) * torch.rand(count, generator=generator)


@pytest.mark.parametrize(("make", "sample"), [(pendulum, between(4, 14)), (cart_pole, between(0.2, 1))])
@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
def test_an_iteration_on_tasks_of_ones_own(make, sample, adapt):
    torch.manual_seed(0)
    tasks = GymTasks(make, sample, horizon=12, title="mine")
    policy, inner = Policy(tasks.observations, tasks.actions, (8, 8)), InnerLoop(adapt, 1, 0.1)
    generator = torch.Generator().manual_seed(0)
    seen = collect(policy, tasks, tasks.sample(3, generator), inner, generator, trajectories=4)
    before = [p.clone() for p in policy.parameters()]
    done = improve(policy, seen, inner)
    tasks.close()
    assert seen.returns().shape == (2, 3)
    assert done.accepted is not None
    assert 0 < done.accepted.kl < 0.01
    assert not all(p.equal(b) for p, b in zip(policy.parameters(), before, strict=True))


def test_steps_are_those_of_the_environments_alone():
    tasks = GymTasks(pendulum, between(4, 14), horizon=5)
    generator = torch.Generator().manual_seed(1)
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(1)))
    first = tasks.reset([5.0, 9.0], 2, generator)
    actions = torch.tensor([-2.0, -0.5, 0.25, 1.0]).view(2, 2, 1)  # of [-1, 1], for torques in [-2, 2]
    second, reward, ended = tasks.step(actions)
    for i, torque in enumerate((-2.0, -1.0, 0.5, 2.0)):
        task, copy = divmod(i, 2)
        alone = pendulum((5.0, 9.0)[task])
        seen, _ = alone.reset(seed=seed + i)
        np.testing.assert_array_equal(first[task, copy].numpy(), seen)
        seen, expected, _, _, _ = alone.step(np.array([torque], np.float32))
        np.testing.assert_array_equal(second[task, copy].numpy(), seen)
        assert float(reward[task, copy]) == pytest.approx(expected, rel=1e-6)
    assert not ended.any()


def test_a_trajectory_that_ends_early_counts_to_its_end():
    tasks = GymTasks(cart_pole, between(0.2, 1), horizon=60)
    policy, generator = Policy(4, tasks.actions, (8,)), torch.Generator().manual_seed(0)
    seen = collect(policy, tasks, [0.5, 0.5], InnerLoop(steps=0), generator, trajectories=5).tried[0]
    lengths = seen.taken.sum(-1)
    assert lengths.min() < lengths.max()
    assert seen.rewards.sum(-1).equal(lengths)  # one for each step
    for task, copy in np.ndindex(2, 5):
        assert seen.taken[task, copy].diff().le(0).all()
        assert not seen.observations[task, copy, int(lengths[task, copy]) :].any()


def test_a_function_that_fails_is_named_with_its_task():
    def make(task):
        raise RuntimeError(f"no such world {task}")

    with pytest.raises(ValueError, match=r"mine failed for the task tensor\(.*RuntimeError: no such world"):
        GymTasks(make, between(0, 1), horizon=3, title="mine")


class Strange(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Box(0, 1)})
    action_space = gymnasium.spaces.Discrete(2)


def test_observations_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match=r"observations of mine are Dict.*FlattenObservation"):
        GymTasks(lambda _: Strange(), between(0, 1), horizon=3, title="mine")
    flat = GymTasks(lambda _: gymnasium.wrappers.FlattenObservation(Strange()), between(0, 1), horizon=3)
    assert flat.observations == 1


def test_actions_of_another_kind_are_refused():
    class Both(Strange):
        observation_space = gymnasium.spaces.Box(0, 1)
        action_space = gymnasium.spaces.MultiDiscrete([2, 2])

    with pytest.raises(ValueError, match=r"actions of mine are MultiDiscrete.*ActionWrapper"):
        GymTasks(lambda _: Both(), between(0, 1), horizon=3, title="mine")


def test_neither_innerloop_nor_the_adapter_needs_mujoco():
    code = "import sys; sys.modules['mujoco'] = None; import innerloop, innerloop.rl.gym, innerloop.rl.config"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_gymnasium_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match="pip install gymnasium"):
        GymTasks(pendulum, between(0, 1), horizon=3)
