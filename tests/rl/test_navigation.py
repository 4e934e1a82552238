"""2D-Navigation by the reference's description, and trajectories through it."""

from __future__ import annotations

import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.rl.meta import collect, improve, parameters
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import Policy
from innerloop.rl.rollout import rollout


def test_steps_are_clipped_and_rewarded_by_what_is_left():
    environment = Navigation()
    start = environment.reset(torch.tensor([[0.3, -0.4]]), 2, torch.Generator())
    assert start.equal(torch.zeros(1, 2, 2))
    place, reward, ended = environment.step(torch.tensor([[[5.0, -0.05], [0.02, 0.0]]]))
    torch.testing.assert_close(place, torch.tensor([[[0.1, -0.05], [0.02, 0.0]]]))
    torch.testing.assert_close(reward, -torch.tensor([[(0.2**2 + 0.35**2) ** 0.5, (0.28**2 + 0.4**2) ** 0.5]]))
    assert not ended.any()


def test_ends_where_both_coordinates_are_close():
    environment = Navigation()
    environment.reset(torch.tensor([[0.05, 0.005]]), 3, torch.Generator())
    _, _, ended = environment.step(torch.tensor([[[0.05, 0.0], [0.05, 0.02], [0.03, 0.0]]]))
    assert ended.tolist() == [[True, False, False]]


def test_the_other_reading_scales_actions_first():
    environment = Navigation(scale=0.1)
    environment.reset(torch.tensor([[0.3, -0.4]]), 1, torch.Generator())
    place, _, _ = environment.step(torch.tensor([[[0.5, -3.0]]]))
    torch.testing.assert_close(place, torch.tensor([[[0.05, -0.1]]]))


def test_goals_are_uniform_in_the_square():
    goals = Navigation().sample(4000, torch.Generator().manual_seed(0))
    assert goals.abs().max() <= 0.5
    torch.testing.assert_close(goals.var(0), torch.full((2,), 1 / 12), atol=0.005, rtol=0)


def test_trajectories_end_with_their_goal_or_with_time():
    environment = Navigation(horizon=30)
    torch.manual_seed(0)
    policy = Policy(2, environment.actions, (4,), std=0.02)
    torch.nn.init.zeros_(policy.head.weight)
    goals = torch.tensor([[0.005, 0.0], [0.4, 0.4]])
    seen = rollout(policy, parameters(policy), environment, goals, 6, torch.Generator().manual_seed(0))
    lengths = seen.taken.sum(-1)
    assert lengths[0].min() < 30
    assert (lengths[1] == 30).all()
    away = (seen.observations[0] - goals[0]).abs()
    for n, length in enumerate(lengths[0].int().tolist()):
        assert not (away[n, 1:length] < 0.01).all(-1).any()  # it was not there before its last step
        assert not seen.rewards[0, n, length:].any()


def test_a_policy_that_has_diverged_is_told():
    environment = Navigation(horizon=3)
    policy = Policy(2, environment.actions, (4,))
    torch.nn.init.constant_(policy.head.bias, float("nan"))
    with pytest.raises(ValueError, match=r"the policy has diverged.*2D-Navigation") as caught:
        rollout(policy, parameters(policy), environment, torch.zeros(1, 2), 2, torch.Generator())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
def test_learns_to_adapt(adapt):
    torch.manual_seed(0)
    environment = Navigation(horizon=40)
    policy, inner, generator = (
        Policy(2, environment.actions),
        InnerLoop(adapt, 1, 0.1),
        torch.Generator().manual_seed(0),
    )
    means = []
    for _ in range(12):
        seen = collect(policy, environment, environment.sample(20, generator), inner, generator, trajectories=10)
        means.append(seen.returns().mean(1))
        improve(policy, seen, inner)
    assert float(means[-1][1]) > float(means[0][1]) + 5
    assert float(means[-1][1]) > float(means[-1][0]) + 1  # adaptation pays
