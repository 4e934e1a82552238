"""The trainer knows no image: a problem of two numbers, trained, killed, resumed, made longer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import same_run
from torch import Tensor, nn

from innerloop.runs.checkpoint import load_checkpoint
from innerloop.runs.problem import Validation
from innerloop.runs.run import Diverged
from innerloop.runs.schedule import Logging, Schedule
from innerloop.runs.trainer import train

SCHEDULE = Schedule(iterations=8, val_every=3, log_every=2, keep=4)
SETTINGS = {"what": "a walk", "iterations": 8}


class Killed(BaseException):
    pass


class Walk:
    """A point walks at random towards 1; its return is how near it is."""

    title, remedy = "walk", "walk slower"

    def __init__(self, known: Mapping[str, Any], *, validates: bool = True, dies: int = 0, bad: int = 0) -> None:
        self.network = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.random = torch.Generator().manual_seed(3)
        self.known, self.validates, self.dies, self.bad = dict(known), validates, dies, bad

    def step(self, number: int) -> dict[str, Tensor]:
        if number == self.dies:
            raise Killed
        with torch.no_grad():
            noise = torch.randn(self.network.weight.shape, generator=self.random)
            self.network.weight += 0.1 * (1 - self.network.weight) + 0.01 * noise
        lost = (1 - self.network.weight.detach()).square().sum()
        return {"before": lost.double(), "after": lost * torch.nan if number == self.bad else lost / 2}

    def validate(self):
        value = float(self.network.weight.detach().sum())
        return Validation(value, {"val_return": value, "val_interval": None}) if self.validates else None

    def test(self) -> dict[str, Any]:
        return {"return": float(self.network.weight.detach().sum())}

    def state(self) -> dict[str, Tensor]:
        return {"random": self.random.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.random.set_state(state["random"])

    def metadata(self) -> dict[str, Any]:
        return {"starts": self.known.get("starts", 0) + 1}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_a_run_leaves(tmp_path):
    result = train(Walk, SCHEDULE, tmp_path, SETTINGS)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["test"]["return"] == result["validation"]["val_return"] > 0.5
    assert (result["best_at"], result["selection"]) == (8, "best of 3 validations")
    assert [list(line) for line in lines(tmp_path)[:3]] == [
        ["iteration", "before", "after"], ["iteration", "val_return", "val_interval"], ["iteration", "before", "after"],
    ]  # fmt: skip
    assert [line["iteration"] for line in lines(tmp_path)] == [2, 3, 4, 6, 6, 8, 8]
    assert {path.name for path in tmp_path.glob("at-*")} == {"at-4.safetensors", "at-8.safetensors"}
    about = load_checkpoint(tmp_path / "best.safetensors").metadata
    assert about == {"starts": 1, "iteration": 8, "val_return": result["test"]["return"], "val_interval": None}


@pytest.mark.parametrize("dies", [1, 3, 4, 7, 8])
def test_killed_and_started_again_it_ends_in_the_same_bits(dies, tmp_path):
    train(Walk, SCHEDULE, tmp_path / "whole", SETTINGS)
    with pytest.raises(Killed):
        train(lambda known: Walk(known, dies=dies), SCHEDULE, tmp_path / "run", SETTINGS, Logging(checkpoint_seconds=0))
    train(Walk, SCHEDULE, tmp_path / "run", SETTINGS)
    same_run(tmp_path / "run", tmp_path / "whole")
    starts = load_checkpoint(tmp_path / "run" / "last.safetensors").metadata["problem"]["starts"]
    assert starts == (1 if dies == 1 else 2), "a problem is told what the last checkpoint knew"


def test_without_a_validation_the_last_weights_are_tested(tmp_path):
    result = train(lambda known: Walk(known, validates=False), SCHEDULE, tmp_path, SETTINGS)
    assert (result["best_at"], result["selection"], result["validation"]) == (8, "the last weights", {})
    assert all(set(line) == {"iteration", "before", "after"} for line in lines(tmp_path))


def test_what_is_not_finite_is_named(tmp_path):
    said = "the after of iteration 3 is not finite. There is no checkpoint yet; walk slower."
    with pytest.raises(Diverged, match=said):
        train(lambda known: Walk(known, bad=3), SCHEDULE, tmp_path, SETTINGS)


def test_a_finished_problem_is_not_made_again(tmp_path):
    result = train(Walk, SCHEDULE, tmp_path, SETTINGS)
    assert train(lambda _: pytest.fail("it is made"), SCHEDULE, tmp_path, SETTINGS) == result
