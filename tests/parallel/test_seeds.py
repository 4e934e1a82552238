from __future__ import annotations

from functools import partial

import pytest
import torch
from parallel.tape import tape
from parallel.test_captured import bank, labels_are_not_read, take

from innerloop.algorithms import anil, fomaml, maml
from innerloop.models import conv4
from innerloop.parallel.captured import Captured
from innerloop.parallel.seeds import SeedsStep
from innerloop.parallel.step import OuterStep

labels_are_not_read = labels_are_not_read
SEEDS = (0, 3, 7)
RULES = {"maml": maml(2, 0.1), "anil": anil(2, 0.1), "fomaml": fomaml(2, 0.1)}


class Exact:
    """Episodes in double precision: what differs then by more than rounding is a fault."""

    def __init__(self, seed, tasks=3):
        self.stream = bank().episodes(3, 1, 2, tasks=tasks, count=20, seed=seed)

    def at(self, index):
        batch = self.stream.at(index)
        return batch._replace(support_x=batch.support_x.double(), query_x=batch.query_x.double())


def model(seed, pooling="max"):
    generator = torch.Generator().manual_seed(seed)
    return conv4(3, channels=3, size=8, width=4, pooling=pooling, halvings=2, generator=generator).double()


def alone(seed, rule, pooling="max", tasks=3):
    network = model(seed, pooling)
    adam = torch.optim.Adam(network.parameters(), 1e-2, fused=True)
    return OuterStep(network, Exact(seed, tasks), rule, adam, clip=0.02)


def together(rule, pooling="max", tasks=3, seeds=SEEDS):
    models, adam = [model(seed, pooling) for seed in seeds], partial(torch.optim.Adam, lr=1e-2, fused=True)
    return models, SeedsStep(models, [Exact(seed, tasks) for seed in seeds], rule, adam, clip=0.02)


@pytest.mark.parametrize(
    ("name", "pooling", "tasks"), [("maml", "max", 3), ("maml", "stride", 2), ("anil", "max", 3), ("fomaml", "max", 2)]
)
def test_a_seed_among_others_has_the_numbers_of_its_run_alone(name, pooling, tasks):
    models, step = together(RULES[name], pooling, tasks)
    measured = take(lambda i: step(torch.tensor(i)), range(3))  # (steps, 2, seeds)
    for place, seed in enumerate(SEEDS):
        single = alone(seed, RULES[name], pooling, tasks)
        want = take(lambda i, single=single: single(torch.tensor(i)), range(3))
        torch.testing.assert_close(measured[..., place], want, rtol=1e-6, atol=1e-6)
        for ours, theirs in zip(models[place].parameters(), single.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_seeds_are_recorded_as_one_step_and_their_models_change_with_it():
    _, eager = together(RULES["anil"])
    want = take(lambda i: eager(torch.tensor(i)), range(3))
    models, step = together(RULES["anil"])
    before = models[1].head.weight.clone()
    torch.testing.assert_close(take(Captured(step, tape), range(3)), want.float(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(models[1].head.weight, before)


def test_weights_loaded_into_one_model_are_those_that_the_step_goes_on_from():
    models, step = together(RULES["anil"], seeds=(0, 3))
    step(torch.tensor(0))
    other = alone(3, RULES["anil"])
    models[1].load_state_dict(other.model.state_dict())
    loss = step(torch.tensor(0))["loss"][1]
    torch.testing.assert_close(loss, other(torch.tensor(0))["loss"])


def test_what_does_not_fit_is_refused():
    adam = partial(torch.optim.Adam, lr=1e-2)
    with pytest.raises(ValueError, match="one stream for each model; got 1 for 2"):
        SeedsStep([model(0), model(1)], [Exact(0)], RULES["maml"], adam)
    with pytest.raises(ValueError, match="chunk_size above 1"):
        SeedsStep([model(0)], [Exact(0)], RULES["maml"], adam, chunk_size=1)
    with pytest.raises(ValueError, match="2 tasks a meta batch or more: vmap runs over them; got 1"):
        SeedsStep([model(0)], [Exact(0, tasks=1)], RULES["maml"], adam)(torch.tensor(0))
