"""The cheetah against gymnasium's, and its tasks against the reference's description."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from innerloop.rl.half_cheetah import HalfCheetah, simulator


@pytest.fixture(scope="module", autouse=True)
def mujoco():
    pytest.importorskip("mujoco.batch", reason="needs mujoco 3.17 or later")
    return simulator()


@pytest.fixture(scope="module")
def theirs():
    gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium to compare with")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what gymnasium's own model file is warned for
        return gymnasium.make("HalfCheetah-v5").unwrapped


def test_equals_gymnasium_bit_for_bit(theirs, capfd):  # noqa: ARG001  mujoco warns of gymnasium's file on stderr
    ours = HalfCheetah("velocity", threads=2)
    generator = torch.Generator().manual_seed(0)
    seen = ours.reset([0.5, 1.5], 2, generator)
    starts = [(ours._batch.bind("qpos").copy(), ours._batch.bind("qvel").copy())]
    actions = (2 * torch.rand(200, 2, 2, 6, generator=generator) - 1).clamp(-1, 1)
    states, rewards = [seen], []
    for action in actions:
        observation, reward, _ = ours.step(action)
        states.append(observation)
        rewards.append(reward)
    for i in range(4):
        task, copy = divmod(i, 2)
        theirs.reset()
        theirs.set_state(starts[0][0][i], starts[0][1][i])
        goal = (0.5, 1.5)[task]
        for step, action in enumerate(actions[:, task, copy]):
            observation, _, _, _, info = theirs.step(action.numpy())
            torso = theirs.data.body("torso").xpos
            expected = np.concatenate([observation, torso]).astype(np.float32)
            assert np.array_equal(states[step + 1][task, copy].numpy(), expected)
            cost = 0.05 * np.square(action.double().numpy()).sum()
            assert float(rewards[step][task, copy]) == np.float32(-abs(info["x_velocity"] - goal) - cost)


def test_threads_change_nothing():
    def run(threads):
        ours = HalfCheetah("direction", threads=threads)
        generator = torch.Generator().manual_seed(1)
        ours.reset(ours.sample(3, generator), 3, generator)
        return [ours.step(torch.randn(3, 3, 6, generator=generator)) for _ in range(10)][-1]

    for a, b in zip(run(1), run(3), strict=True):
        assert a.equal(b)


def test_the_direction_is_rewarded_and_actions_cost():
    ours = HalfCheetah("direction")
    starts = (np.tile(ours.model.qpos0, (2, 1)), np.zeros((2, 9)))
    ours.reset([1.0, -1.0], 1, torch.Generator())
    ours.begin(*starts)
    _, reward, ended = ours.step(torch.full((2, 1, 6), 3.0))  # counts as 1
    assert not ended.any()
    assert float(reward.sum()) == pytest.approx(-2 * 0.05 * 6, abs=1e-6)  # the speeds cancel


def test_tasks_are_those_of_the_reference():
    generator = torch.Generator().manual_seed(0)
    directions = HalfCheetah("direction").sample(1000, generator)
    assert set(directions.tolist()) == {-1.0, 1.0}
    assert abs(float(directions.mean())) < 0.1
    speeds = HalfCheetah("velocity").sample(1000, generator)
    assert 0 <= speeds.min() < 0.1
    assert 1.9 < speeds.max() <= 2


def test_the_first_state_is_noisy_as_the_reference_has_it():
    ours = HalfCheetah("velocity")
    ours.reset([1.0], 2000, torch.Generator().manual_seed(0))
    place, speed = ours._batch.bind("qpos") - ours.model.qpos0, ours._batch.bind("qvel")
    assert np.abs(place).max() <= 0.1
    assert place.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    assert speed.std() == pytest.approx(0.1, rel=0.02)


def test_weighs_14_kg():
    assert HalfCheetah("velocity").model.body_mass.sum() == pytest.approx(14)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "not installed"),
        (types.SimpleNamespace(__version__="3.16.0", __path__=[]), "3.16.0 has no batched stepping"),
        (types.SimpleNamespace(__version__="4.0.0"), "4.0.0 has a wrong solver"),
    ],
)
def test_a_simulator_that_does_not_do_is_told_in_one_line(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, "mujoco", module)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    with pytest.raises(ValueError, match=message) as caught:
        HalfCheetah("velocity")
    assert "\n" not in str(caught.value)
    assert "pip install" in str(caught.value)
