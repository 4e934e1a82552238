"""What TRPO needs, through the adaptation, against dense float64 derivatives of the textbook's loops."""

from __future__ import annotations

import by_hand
import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.params import chosen
from innerloop.rl.curvature import flat, like
from innerloop.rl.environment import Actions
from innerloop.rl.meta import Outer, collect, parameters
from innerloop.rl.options import Advantage, Trpo
from innerloop.rl.policy import Policy


class Drift:
    """A point that actions and the task push; trajectories end early now and then."""

    title, observations, horizon = "Drift", 3, 7

    def __init__(self, discrete):
        self.actions = Actions(2, discrete)

    def sample(self, count, generator):
        return torch.randn(count, 3, generator=generator)

    def reset(self, tasks, copies, generator):
        self.push, self.count = tasks[:, None].expand(-1, copies, -1), 0
        self.place = torch.randn(len(tasks), copies, 3, generator=generator)
        return self.place

    def step(self, actions):
        self.count += 1
        moved = actions.unsqueeze(-1).float() - 0.5 if self.actions.discrete else actions.float()
        self.place = self.place + 0.3 * self.push + 0.3 * moved.sum(-1, keepdim=True)
        return self.place, -(self.place - self.push).norm(dim=-1), (self.place[..., 0] > 0.5) & (self.count > 2)


def setting(adapt=("*",), activation="relu", discrete=False, *, steps=1, first_order=False):
    torch.manual_seed(1)
    environment = Drift(discrete)
    policy = Policy(3, environment.actions, (4, 3), activation, std=0.7).double()
    inner = InnerLoop(adapt, steps, 0.3, first_order=first_order)
    generator = torch.Generator().manual_seed(2)
    tasks = environment.sample(3, generator)
    return policy, inner, collect(policy, environment, tasks, inner, generator, trajectories=4)


def through_adaptation(policy, inner, collected, objective):
    """The mean over tasks of `objective(adapted parameters, task)`, as a function of the parameters in one row."""
    theta, how = parameters(policy), Advantage()

    def mean(row):
        total = 0
        for task in range(3):
            coefficients = by_hand.baseline(collected.tried[0], task, how.discount, how.ridge)
            params = like(row, theta)
            for tried in collected.tried[:-1]:
                scores = by_hand.advantages(tried, task, coefficients, how.discount, how.smoothing)
                names = chosen(policy, inner.adapt)
                params = by_hand.adapted(
                    policy, params, tried, task, scores, names, inner.lr, first_order=inner.first_order
                )
            scores = by_hand.advantages(collected.tried[-1], task, coefficients, how.discount, how.smoothing)
            old = {name: p[task] for name, p in collected.path[-1].items()}
            total = total + objective(params, old, collected.tried[-1], task, scores)
        return total / 3

    return flat(theta).requires_grad_(), mean


CASES = [
    (("*",), "relu", False),
    (("*",), "tanh", False),
    (("head.*",), "relu", False),
    (("head.*", "log_std"), "tanh", False),
    (("layer2.*", "log_std"), "tanh", False),
    (("*",), "tanh", True),
    (("head.*",), "relu", True),
]


@pytest.mark.parametrize(("adapt", "activation", "discrete"), CASES)
@pytest.mark.parametrize(("steps", "first_order"), [(1, False), (2, False), (1, True), (0, False)])
def test_the_gradient_through_the_adaptation(adapt, activation, discrete, steps, first_order):
    policy, inner, collected = setting(adapt, activation, discrete, steps=steps, first_order=first_order)
    assert 0 < collected.tried[-1].taken.mean() < 1  # some end early

    def objective(params, old, tried, task, scores):
        return by_hand.surrogate(policy, params, old, tried, task, scores)

    row, mean = through_adaptation(policy, inner, collected, objective)
    expected = torch.autograd.grad(mean(row), row)[0]
    torch.testing.assert_close(Outer(policy, collected, inner, Trpo()).gradient(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("adapt", "activation", "discrete"), CASES)
@pytest.mark.parametrize(("steps", "over"), [(1, "mean"), (1, "sum"), (2, "mean")])
def test_the_curvature_through_the_adaptation(adapt, activation, discrete, steps, over):
    policy, inner, collected = setting(adapt, activation, discrete, steps=steps)
    how = Trpo(kl=over, damping=0.1, curvature_every=1)

    def objective(params, old, tried, task, _):
        return by_hand.divergence(policy, params, old, tried, task, over)

    row, mean = through_adaptation(policy, inner, collected, objective)
    expected = torch.autograd.functional.hessian(mean, row.detach())
    times = Outer(policy, collected, inner, how).curvature()
    got = torch.stack([times(unit) for unit in torch.eye(len(row), dtype=row.dtype)], 1)
    torch.testing.assert_close(got, expected + 0.1 * torch.eye(len(row), dtype=row.dtype), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("adapt", "activation", "discrete"), CASES[::2])
def test_what_the_line_search_measures(adapt, activation, discrete):
    policy, inner, collected = setting(adapt, activation, discrete)
    outer = Outer(policy, collected, inner, Trpo())
    step = 0.05 * torch.randn(len(flat(outer.theta)), dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def both(params, old, tried, task, scores):
        return torch.stack(
            [
                by_hand.surrogate(policy, params, old, tried, task, scores),
                by_hand.divergence(policy, params, old, tried, task, "mean"),
            ]
        )

    row, mean = through_adaptation(policy, inner, collected, both)
    expected = mean((row + step).detach().requires_grad_()) - mean(row)
    torch.testing.assert_close(torch.stack(outer.measure(step)), expected.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.stack(outer.measure(0 * step)), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
def test_finite_differences_agree_with_the_gradient(adapt):
    policy, inner, collected = setting(adapt, "tanh")
    outer = Outer(policy, collected, inner, Trpo())
    direction = torch.randn(len(flat(outer.theta)), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    up, down = (float(outer.measure(size * direction)[0]) for size in (1e-5, -1e-5))
    assert (up - down) / 2e-5 == pytest.approx(float(outer.gradient() @ direction), rel=1e-6)


@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
def test_chunks_change_nothing_but_rounding(adapt):
    policy, inner, collected = setting(adapt)
    row = torch.randn(len(flat(parameters(policy))), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    results = []
    for size in (1, 2, 3, None):
        outer = Outer(policy, collected, inner, Trpo(curvature_every=2), size)
        results.append([outer.gradient(), outer.curvature()(row), torch.stack(outer.measure(0.01 * row))])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
