"""Returns, baseline, GAE and weights against loops over trajectories."""

from __future__ import annotations

import by_hand
import pytest
import torch

from innerloop.rl.advantages import discounted, fit, gae, normalised, samples, thinned, values
from innerloop.rl.options import Advantage
from innerloop.rl.rollout import Trajectories

HOW = Advantage(discount=0.9, smoothing=0.8)


def made_up(dtype=torch.float64):
    """2 tasks, 4 trajectories of 1 to 9 steps."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([[9, 1, 5, 9], [2, 3, 9, 7]])
    taken = (torch.arange(9) < lengths[..., None]).to(dtype)
    observations = torch.randn(2, 4, 9, 3, generator=generator).to(dtype) * taken[..., None]
    rewards = torch.randn(2, 4, 9, generator=generator).to(dtype) * taken
    return Trajectories(observations, torch.randn(2, 4, 9, 2, generator=generator).to(dtype), rewards, taken)


def test_returns_and_their_mean():
    tried = made_up()
    for task in range(2):
        paths = list(by_hand.trajectories_of(tried, task))
        assert float(tried.returns()[task]) == pytest.approx(sum(float(r.sum()) for _, _, r in paths) / 4)
        for n, (_, _, rewards) in enumerate(paths):
            expected = torch.tensor(by_hand.returns(rewards, 0.9), dtype=torch.float64)
            torch.testing.assert_close(discounted(tried.rewards, 0.9)[task, n, : len(expected)], expected)


def test_the_baseline_is_a_ridge_regression_of_each_task():
    tried = made_up()
    for task in range(2):
        expected = by_hand.baseline(tried, task, HOW.discount, HOW.ridge)
        torch.testing.assert_close(fit(tried, HOW)[task], expected, rtol=1e-6, atol=1e-8)


def test_advantages_are_those_of_the_loops():
    tried = made_up()
    coefficients = fit(tried, HOW)
    batch = samples(tried, coefficients, HOW)
    for task in range(2):
        expected = by_hand.advantages(tried, task, coefficients[task], HOW.discount, HOW.smoothing)
        for n, row in enumerate(expected):
            got = batch.advantages[task].view(4, 9)[n]
            torch.testing.assert_close(got[: len(row)], row)
            assert not got[len(row) :].any()


def test_float32_is_as_good_as_its_rounding():
    tried, exact = made_up(torch.float32), made_up()
    got, expected = (samples(x, fit(x, HOW), HOW).advantages for x in (tried, exact))
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_weights_are_a_mean_over_steps_and_then_over_trajectories():
    tried = made_up()
    batch = samples(tried, fit(tried, HOW), HOW)
    what = torch.randn(2, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for task in range(2):
        lengths = tried.taken[task].sum(-1).int().tolist()
        means = [float(what[task].view(4, 9)[n, :length].mean()) for n, length in enumerate(lengths)]
        assert float((batch.weights * what)[task].sum()) == pytest.approx(sum(means) / 4)


def test_thinned_keeps_every_other_step_with_weights_that_sum_to_one():
    tried = made_up()
    whole = samples(tried, fit(tried, HOW), HOW)
    thin = thinned(whole, tried, 2)
    assert thin.observations.equal(tried.observations[:, :, ::2].flatten(1, 2))
    assert thin.advantages.equal(whole.advantages.view(2, 4, 9)[:, :, ::2].flatten(1, 2))
    torch.testing.assert_close(thin.weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert thinned(whole, tried, 1) is whole


def test_nothing_is_expected_behind_the_end_also_where_time_ran_out():
    tried = made_up()
    expected = values(tried, fit(tried, HOW))
    assert not expected[tried.taken == 0].any()
    last = gae(tried, expected, HOW)[0, 0, -1]
    torch.testing.assert_close(last, tried.rewards[0, 0, -1] - expected[0, 0, -1])


def test_advantages_that_are_all_equal_are_zero():
    taken = made_up().taken
    assert not normalised(taken * 3, taken).any()
    tried = made_up()._replace(rewards=torch.zeros(2, 4, 9, dtype=torch.float64))
    assert not samples(tried, fit(tried, HOW), HOW).advantages.any()


@pytest.mark.parametrize("part", ["rewards", "observations"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told(part, value):
    tried = made_up()
    getattr(tried, part)[0, 0, 0] = value
    with pytest.raises(ValueError, match="observations or rewards that are not finite"):
        fit(tried, HOW)


def test_features_that_depend_on_each_other_do_no_harm():
    tried = made_up()
    tried.observations[..., 2] = tried.observations[..., 1]
    assert samples(tried, fit(tried, HOW), HOW).advantages.isfinite().all()
