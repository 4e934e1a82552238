"""What a question is answered with: the runs of a store, their images, and a device."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from innerloop.data import Splits
from innerloop.data.bank import Bank
from innerloop.data.episodes import EpisodeStream
from innerloop.device import device_name, pick_device
from innerloop.experiments.training import Means, Run, result_of
from innerloop.runs.config import Spec
from innerloop.runs.images import test_stream
from innerloop.runs.load import load
from innerloop.runs.means import Compute
from innerloop.runs.sources import open_data


@dataclass
class Lab:
    """Hands out networks and data; remembers on which devices the numbers that it handed out were found."""

    store: Path
    means: Means
    splits: dict[tuple[Any, ...], Splits] = field(default_factory=dict[tuple[Any, ...], Splits])  # opened once
    asked_about: Run | None = None
    found_on: set[str] = field(default_factory=set[str])

    def about(self, run: Run) -> Lab:
        """The same lab, for a question about this run."""
        return Lab(self.store, self.means, self.splits, run)

    @cached_property
    def compute(self) -> Compute:
        """On what the run that the question is about is computed."""
        assert self.asked_about is not None
        return self.means(self.asked_about)[0]

    @cached_property
    def device(self) -> torch.device:
        """Where it is computed."""
        device = pick_device(self.compute.device)
        self.found_on.add(device_name(device))
        return device

    def network(self, run: Spec, at: int | None = None) -> torch.nn.Sequential:
        """The network that validation chose, or that of an iteration; a run's first weights need no training.

        Raises:
            FileNotFoundError: the run, or its checkpoint at this iteration, is not there.
        """
        folder = self.store / run.name
        name = f"at-{at}.safetensors" if at else "best.safetensors"
        if not (folder / name).exists() and (folder / "result.json").exists():
            raise FileNotFoundError(
                f"{folder} is a finished run without its {name}: move the folder away to have it trained again"
            )
        if at is None or at == 0:
            learner = load(folder)
            return (learner.model if at is None else run.build(learner.shape).eval()).to(self.device)
        return load(folder / name).model.to(self.device)

    def images(self, run: Spec) -> Bank:
        """The test classes of a run's data."""
        problem = run.problem
        key = (problem.data, problem.size, problem.split, problem.group_by)
        if key not in self.splits:
            self.splits[key] = open_data(problem, self.means(run)[1])
        return self.splits[key].test.to(self.device)

    def test_episodes(self, run: Spec, episodes: int, query: int) -> EpisodeStream:
        """As a run's own test draws them."""
        return test_stream(self.images(run), run.problem, episodes, query)

    def single_tasks(self, run: Spec, episodes: int, query: int) -> EpisodeStream:
        """Test episodes in batches of one task."""
        return self.images(run).episodes(run.problem.way, run.problem.shot, query, count=episodes)

    def result(self, run: Run) -> dict[str, Any]:
        """What the run found in its own test, on its own device.

        Raises:
            FileNotFoundError: it is not trained.
        """
        result = result_of(run, self.store / run.name)
        if result is None:
            raise FileNotFoundError(f"the run {run.name} is not trained")
        self.found_on.add(result["device"])
        return result

    def metrics(self, run: Run) -> list[dict[str, Any]]:
        """What the run wrote down while it trained.

        Raises:
            FileNotFoundError: it is not trained.
            ValueError: the file is damaged.
        """
        self.result(run)
        path = self.store / run.name / "metrics.jsonl"
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): delete the run's folder to train it again") from error
