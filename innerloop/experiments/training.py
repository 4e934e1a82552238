"""What is trained: runs of any kind, named by their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from pathlib import Path
from typing import Any, Protocol

import torch

from innerloop.rl import config as policies
from innerloop.runs import config as images
from innerloop.runs.images import result_of as images_result
from innerloop.runs.images import train_images
from innerloop.runs.means import Compute, Source
from innerloop.runs.policies import train_policy
from innerloop.runs.trainer import finished


class Run(Protocol):
    """The settings of a run, as a frozen value: `runs.config.Spec` of images, `rl.config.Settings` of policies.

    Another kind has these names, and registers how it is trained: `@train.register` and `@as_json.register`.
    """

    @property
    def seed(self) -> int:
        """Of all that is random in it."""
        ...

    @property
    def key(self) -> str:
        """Names the settings."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def name(self) -> str:
        """The title and the key: the name of its folder in a store."""
        ...


Means = Callable[[Run], tuple[Compute, Source]]
"""On what a run is computed, and where its data lies."""


def iterations_of(run: Run) -> int:
    """Its outer steps."""
    schedule: Any = getattr(run, "schedule", run)
    return schedule.iterations


def body_of(run: Run) -> str:
    """The run whose body this one is trained on; empty for most."""
    return run.inner.body if isinstance(run, images.Spec) else ""


def data_of(run: Run) -> str:
    """The name or the folder of its images; empty where it has none."""
    return run.problem.data if isinstance(run, images.Spec) else ""


def of_any_seed(run: Run) -> Run:
    """The same for runs that differ in their seed alone, or in the seed of their body."""
    if isinstance(run, images.Spec):
        return run.where(seed=0, body="any" if run.inner.body else "")
    return replace(run, seed=0)  # pyright: ignore  a frozen dataclass


@singledispatch
def train(run: Run, folder: Path, compute: Compute, source: Source) -> dict[str, Any]:  # noqa: ARG001  what is registered has them
    """Train a run in its folder, going on where it was stopped; its result."""
    raise TypeError(f"no way to train {run!r}: register one, @train.register")


@singledispatch
def as_json(run: Run) -> dict[str, Any]:
    """All settings of a run, as its folder and the files of answers tell them."""
    raise TypeError(f"no way to write {run!r} down: register one, @as_json.register")


def result_of(run: Run, folder: Path) -> dict[str, Any] | None:
    """The result of a run that is trained and tested; None of one that is not.

    Raises:
        ValueError: the file is damaged.
    """
    return images_result(run, folder) if isinstance(run, images.Spec) else finished(folder, as_json(run))


@train.register
def _(run: images.Spec, folder: Path, compute: Compute, source: Source) -> dict[str, Any]:
    return train_images(run, folder, compute, source)


@as_json.register
def _(run: images.Spec) -> dict[str, Any]:
    return run.as_json()


@train.register
def _(run: policies.Settings, folder: Path, compute: Compute, source: Source) -> dict[str, Any]:  # noqa: ARG001
    return train_policy(run, folder, threads=torch.get_num_threads())


@as_json.register
def _(run: policies.Settings) -> dict[str, Any]:
    return policies.as_dict(run)
