"""What is held in memory: one chunk of tasks in training, one step at test."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch
from cases import CASES
from torch import nn

from innerloop.algorithms import maml
from innerloop.descent import descend, last
from innerloop.inner import adapt, predict
from innerloop.outer import meta_gradient
from innerloop.tasks import Episodes


class Watch:
    """A loss that counts how many of the outputs it was given are still there."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.seen.append(weakref.ref(outputs))
        self.most = max(self.most, sum(each() is not None for each in self.seen))
        return nn.functional.cross_entropy(outputs, targets)


@pytest.mark.parametrize("how", ["predict", "adapt"])
def test_without_a_graph_the_steps_before_are_let_go(how):
    case, loss = CASES["two blocks"], Watch()
    model, episodes = case.build(), case.episodes()
    with torch.no_grad():
        if how == "predict":
            predict(model, episodes, replace(maml(12), loss=loss), chunk_size=1)
        else:
            adapt(model, episodes.support_x[0], episodes.support_y[0], replace(maml(12), loss=loss))
    assert len(loss.seen) >= 12
    assert loss.most <= 2


def test_last_keeps_one_step():
    seen: list[weakref.ref[torch.Tensor]] = []

    def watched():
        for params in descend(lambda params: params["p"].sum(), {"p": torch.ones(1)}, 6, {"p": 0.01}):
            seen.append(weakref.ref(params["p"]))
            assert sum(each() is not None for each in seen) <= 3
            yield params

    assert last(watched())["p"].item() == pytest.approx(1 - 6 * 0.01)


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_a_larger_meta_batch_holds_no_more_graphs(chunk_size):
    case = CASES["two blocks"]
    model, episodes = case.build(), case.episodes()

    def most(times: int) -> int:
        loss = Watch()
        batch = Episodes(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in episodes))
        meta_gradient(model, batch, replace(maml(3), loss=loss), chunk_size=chunk_size)
        return loss.most

    assert most(4) == most(1)
