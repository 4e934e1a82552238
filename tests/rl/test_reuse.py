"""What adaptation does to each layer of a policy."""

from __future__ import annotations

import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.rl.meta import collect
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import Policy
from innerloop.rl.reuse import change, freezing

SOME = {"tasks": 3, "trajectories": 5}


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    environment = Navigation(horizon=12)
    return Policy(2, environment.actions, (6, 5), "tanh"), environment


def test_freezing_all_but_the_head_is_anil_at_test_time(made):
    results = freezing(*made, InnerLoop(("*", "!log_std"), 1, 0.5), 3, **SOME)
    assert len(results) == 3
    assert all(r[0].equal(results[0][0]) for r in results)  # the same tasks and trajectories before
    generator = torch.Generator().manual_seed(3)
    tasks = made[1].sample(3, generator)
    anil = collect(*made, tasks, InnerLoop(("head.*",), 1, 0.5), generator, trajectories=5)
    torch.testing.assert_close(results[-1], anil.returns())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_body_that_does_not_adapt_does_not_change(made):
    found = change(*made, InnerLoop(("head.*",), 1, 0.5), 3, **SOME)
    assert found.distance["layer1"] == found.distance["layer2"] == 0
    assert found.distance["head"] > 0
    assert found.cca["layer2"] == pytest.approx(1, abs=1e-6)
    assert found.cka["layer1"] == pytest.approx(1, abs=1e-6)
    assert found.cka["head"] < 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_adapts_changes_and_chance_is_lower(made):
    found = change(*made, InnerLoop(("*",), 1, 0.5), 3, **SOME)
    assert min(found.distance.values()) > 0
    assert all(found.permuted_cka[layer] < found.cka[layer] <= 1 for layer in ("layer1", "layer2", "head"))
    assert found.length["head"] == pytest.approx(float(made[0].head.weight.norm()))
