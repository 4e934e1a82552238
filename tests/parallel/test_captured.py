from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import pytest
import torch
from parallel.tape import tape
from torch import nn

from innerloop.algorithms import anil, fomaml, maml
from innerloop.data.bank import Bank
from innerloop.inner import InnerLoop
from innerloop.models import conv4
from innerloop.outer import meta_train
from innerloop.parallel.captured import Captured
from innerloop.parallel.step import OuterStep

RULES = {"maml": maml(2, 0.1), "anil": anil(2, 0.1), "fomaml": fomaml(2, 0.1)}  # not NIL: on a CPU it reads labels
GPU = pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])


@pytest.fixture(autouse=True)
def labels_are_not_read(monkeypatch):
    """As on a GPU, where reading the largest label would wait."""
    for name, room in list(sys.modules.items()):
        if name.startswith("innerloop") and hasattr(room, "largest_label"):
            monkeypatch.setattr(room, "largest_label", lambda _: -1)


def bank(device="cpu") -> Bank:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return Bank.stack(images, [5] * 6, [f"class{i}" for i in range(6)], white=255).to(device)


def outer_step(rule, device="cpu", model=None, clip=0.02) -> OuterStep:
    torch.manual_seed(0)
    model = (model or conv4(3, channels=3, size=8, width=4, pooling="stride")).to(device)
    # On a CPU it is the fused Adam that keeps its count in a tensor.
    adam = torch.optim.Adam(model.parameters(), 1e-2, **({"fused": True} if device == "cpu" else {"capturable": True}))
    stream = bank(device).episodes(3, 1, 2, tasks=3, count=20)
    return OuterStep(model, stream, rule, adam, clip=clip)


def take(step, indices) -> torch.Tensor:
    return torch.stack([torch.stack(list(step(i).values())) for i in indices]).cpu()


def recorder(device):
    return tape if device == "cpu" else None


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", RULES)
def test_a_record_played_gives_the_numbers_of_meta_train(name, device):
    eager, step = outer_step(RULES[name], device), outer_step(RULES[name], device)
    losses = meta_train(eager.model, eager.stream, eager.predictor, eager.optimizer, clip=eager.clip)
    want = torch.stack([torch.stack([s.loss, s.accuracy]) for _, s in zip(range(5), losses, strict=False)]).cpu()
    torch.testing.assert_close(take(Captured(step, recorder(device)), range(5)), want)
    for ours, theirs in zip(step.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_record_goes_on_in_the_same_bits_from_any_number_and_after_the_optimiser_was_restored(device):
    step = outer_step(RULES["maml"], device)
    whole = take(Captured(step, recorder(device)), range(6))
    first = outer_step(RULES["maml"], device)
    captured = Captured(first, recorder(device))
    begun = take(captured, range(3))
    second = outer_step(RULES["maml"], device)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert torch.equal(torch.cat([begun, take(Captured(second, recorder(device)), range(3, 6))]), whole)
    # The first goes back to where it began, in other tensors of its optimiser, and takes the same way.
    fresh = outer_step(RULES["maml"], device)
    first.model.load_state_dict(fresh.model.state_dict())
    first.optimizer.load_state_dict(fresh.optimizer.state_dict())
    assert torch.equal(take(captured, range(6)), whole)


class Waits(nn.Module):
    def forward(self, x):
        return x * (1.0 if x.sum().item() > 0 else 0.9)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_what_waits_runs_as_it_is_and_says_why_once(device):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), Waits(), nn.Linear(192, 3))

    eager = replace(outer_step(RULES["maml"], device, model()), chunk_size=1)
    step = replace(outer_step(RULES["maml"], device, model()), chunk_size=1)
    want = take(lambda i: eager(torch.tensor(i, device=device)), range(3))
    captured = Captured(step, recorder(device))
    with pytest.warns(UserWarning, match=r"not captured as a CUDA graph and runs slower \(.*synchroniz") as said:
        first = take(captured, [0])
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(torch.cat([first, take(captured, [1, 2])]), want)


def test_on_a_cpu_nothing_is_recorded():
    step, eager = outer_step(RULES["anil"]), outer_step(RULES["anil"])
    assert torch.equal(take(Captured(step), range(3)), take(lambda i: eager(torch.tensor(i)), range(3)))


def test_dropout_draws_as_it_would_without_a_record():
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))

    eager, step = (outer_step(InnerLoop((), 0), model=model()) for _ in range(2))
    torch.manual_seed(1)
    want = take(lambda i: eager(torch.tensor(i)), range(3))
    torch.manual_seed(1)
    assert torch.equal(take(Captured(step, tape), range(3)), want)
