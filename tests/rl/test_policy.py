"""What a policy's outputs stand for, against torch.distributions."""

from __future__ import annotations

import math

import by_hand
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from innerloop.rl.environment import Actions
from innerloop.rl.meta import parameters
from innerloop.rl.policy import Outputs, Policy, draw, kl, log_prob


def gaussians():
    torch.manual_seed(0)
    return [Outputs(torch.randn(2, 5, 3).double(), torch.randn(2, 3).double()) for _ in range(2)]


def theirs(outputs):
    return Normal(outputs.values, outputs.log_std.exp().unsqueeze(1).expand_as(outputs.values))


def test_gaussian():
    new, old = gaussians()
    actions = torch.randn(2, 5, 3).double()
    torch.testing.assert_close(log_prob(new, actions), Independent(theirs(new), 1).log_prob(actions))
    each = kl_divergence(theirs(new), theirs(old))
    torch.testing.assert_close(kl(new, old, "sum"), each.sum(-1))
    torch.testing.assert_close(kl(new, old, "mean"), each.mean(-1))
    assert kl(new, new, "sum").abs().max() < 1e-15


def test_categorical():
    torch.manual_seed(0)
    new, old = (Outputs(torch.randn(2, 5, 4).double(), None) for _ in range(2))
    actions = torch.randint(4, (2, 5))
    torch.testing.assert_close(log_prob(new, actions), Categorical(logits=new.values).log_prob(actions))
    expected = kl_divergence(Categorical(logits=new.values), Categorical(logits=old.values))
    torch.testing.assert_close(kl(new, old, "sum"), expected)


def test_actions_are_drawn_from_it():
    outputs = Outputs(torch.tensor([[[1.0, -2.0]]]).expand(1, 20000, 2), torch.tensor([[0.0, math.log(3)]]))
    drawn = draw(outputs, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, 3.0]), atol=0.05, rtol=0)
    choices = draw(Outputs(torch.tensor([0.2, 0.8]).log().expand(1, 20000, 2), None), torch.Generator().manual_seed(0))
    assert choices.double().mean() == pytest.approx(0.8, abs=0.01)


def test_a_standard_deviation_never_vanishes():
    outputs = Outputs(torch.zeros(1, 1, 2), torch.full((1, 2), -100.0))
    assert log_prob(outputs, torch.zeros(1, 1, 2)).isfinite().all()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_parameters_of_each_task_give_what_each_alone_gives(activation):
    torch.manual_seed(0)
    policy = Policy(3, Actions(2), (5, 4), activation).double()
    shared, x = parameters(policy), torch.randn(4, 6, 3).double()
    each = {name: p + 0.1 * torch.randn(4, *p.shape) for name, p in shared.items()}
    outputs = policy.outputs(each, x)
    for i in range(4):
        alone = by_hand.distribution(policy, {name: p[i] for name, p in each.items()}, x[i])
        torch.testing.assert_close(outputs.values[i], alone.mean)
    torch.testing.assert_close(policy.outputs(shared, x).values, policy(x))


def test_begins_as_the_reference_does():
    torch.manual_seed(0)
    policy = Policy(20, Actions(6))
    assert [name for name, _ in policy.named_parameters()] == [
        "log_std",
        *(f"{layer}.{part}" for layer in ("layer1", "layer2", "head") for part in ("weight", "bias")),
    ]
    assert not policy.log_std.any()
    assert not policy.head.bias.any()
    bound = math.sqrt(6 / 120)  # Xavier's, uniform
    assert 0.95 * bound < policy.layer1.weight.abs().max() <= bound
    assert not hasattr(Policy(4, Actions(2, discrete=True)), "log_std")
