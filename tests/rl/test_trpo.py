"""Conjugate gradients, the line search, and whole steps."""

from __future__ import annotations

import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.rl.curvature import flat
from innerloop.rl.meta import Outer, Seconds, collect, improve, parameters
from innerloop.rl.navigation import Navigation
from innerloop.rl.options import Trpo
from innerloop.rl.policy import Policy
from innerloop.rl.trpo import conjugate_gradient, line_search


def problem(adapt=("*",), **settings):
    torch.manual_seed(0)
    environment = Navigation(horizon=15)
    policy, inner = Policy(2, environment.actions, (16, 16)), InnerLoop(adapt, 1, 0.1)
    generator = torch.Generator().manual_seed(0)
    tasks = environment.sample(6, generator)
    return policy, inner, collect(policy, environment, tasks, inner, generator, trajectories=8, **settings)


def test_conjugate_gradients_solve():
    torch.manual_seed(0)
    half = torch.randn(8, 8).double()
    matrix, b = half @ half.T + torch.eye(8), torch.randn(8).double()
    found = conjugate_gradient(lambda v: matrix @ v, b, 30, 1e-20)
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.image, b)
    few = conjugate_gradient(lambda v: matrix @ v, b, 3, 1e-20)
    assert few.steps == 3
    torch.testing.assert_close(few.image, matrix @ few.x)


def test_the_line_search_takes_the_longest_step_that_obeys():
    full = torch.ones(2)
    how = Trpo(max_kl=0.5, shrink=0.5)
    taken = line_search(lambda s: (-s.sum(), s.sum() / 2), full, how)
    assert taken is not None
    assert taken.tried == 3  # 1 and 0.5 are not below the bound
    assert taken.kl == 0.25
    assert line_search(lambda s: (s.sum(), 0 * s.sum()), full, how) is None
    assert line_search(lambda s: (s.sum() * torch.nan, 0 * s.sum()), full, how) is None


@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
@pytest.mark.parametrize("every", [1, 5])
def test_a_step_lowers_the_loss_within_the_trust_region(adapt, every):
    policy, inner, seen = problem(adapt)
    outer = Outer(policy, seen, inner, Trpo(curvature_every=every))  # before the policy moves
    outer.theta = {name: p.clone() for name, p in outer.theta.items()}
    before = flat(outer.theta)
    done = improve(policy, seen, inner, Trpo(curvature_every=every))
    assert done.accepted is not None
    step = flat(parameters(policy)) - before
    torch.testing.assert_close(step, done.accepted.step, rtol=0, atol=1e-6)
    change, kl = (float(x) for x in outer.measure(step))
    assert change < 0
    assert 0.002 < kl < 0.01  # close to the bound, not far inside


def test_the_body_of_anil_changes_in_the_outer_loop_alone():
    policy, _, seen = problem(("head.*",))
    begun, adapted = seen.path
    for name, p in parameters(policy).items():
        assert begun[name][0].equal(p)
        assert adapted[name].equal(begun[name]) == (not name.startswith("head"))


def test_tasks_that_teach_nothing_leave_the_policy_alone():
    policy, inner, seen = problem()
    nothing = [batch._replace(advantages=torch.zeros_like(batch.advantages)) for batch in seen.batches]
    before = flat(parameters(policy)).clone()
    done = improve(policy, seen._replace(batches=nothing), inner)
    assert done.accepted is None
    assert flat(parameters(policy)).equal(before)


def test_the_seconds_of_each_part_are_told():
    seconds = Seconds()
    policy, inner, seen = problem(seconds=seconds)
    improve(policy, seen, inner, seconds=seconds)
    assert set(seconds.parts) == {"simulation", "adaptation", "gradient", "curvature", "line search"}
    assert min(seconds.parts.values()) > 0


def test_inner_loops_for_images_are_refused():
    policy, environment = Policy(2, Navigation.actions, (4,)), Navigation(horizon=3)
    inner = InnerLoop(steps=1, loss=torch.nn.functional.mse_loss)
    with pytest.raises(ValueError, match="leave loss as InnerLoop"):
        collect(policy, environment, torch.zeros(1, 2), inner, torch.Generator())
