"""Testing a predictor: accuracy and loss on the query sets of episodes, with their spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.accuracy import accuracies
from innerloop.norm import describe_statistics
from innerloop.outer import task_losses
from innerloop.params import resting
from innerloop.predictors import Predictor, bind
from innerloop.progress import watched
from innerloop.show import figure, table
from innerloop.tasks import Episodes, check_episodes
from innerloop.trees import rows


@dataclass(frozen=True, eq=False)
class Score:
    """How a predictor did, episode by episode and step by step. Printed: the mean and its 95 % interval."""

    accuracy: (
        Tensor | None
    )  # (n + 1, episodes): after 0, 1, ..., n inner steps; None where shapes do not say what an answer is
    loss: Tensor  # (n + 1, episodes), or (1, episodes) where only the last step was asked for
    statistics: str  # whose normalised the query sets

    @property
    def values(self) -> Tensor:
        """Accuracies, or losses where there are none, (n + 1, episodes)."""
        return self.loss if self.accuracy is None else self.accuracy

    @property
    def mean(self) -> float:
        """After the last step."""
        return float(self.values[-1].mean())

    @property
    def interval(self) -> float:
        """Half the width of the 95 % interval: 1.96 standard errors over episodes."""
        return float(self.per_step[-1][1])

    @property
    def per_step(self) -> list[tuple[float, float]]:
        """Mean and half interval after 0, 1, ..., n steps."""
        count = self.values.shape[1]
        spread = self.values.std(1) if count > 1 else torch.full((len(self.values),), torch.nan)
        half = 1.96 * spread / count**0.5
        return list(zip(self.values.mean(1).tolist(), half.tolist(), strict=True))

    def __str__(self) -> str:
        kind = "loss " if self.accuracy is None else ""
        count = self.values.shape[1]
        spread = f" ± {self.interval:.4f}" if count > 1 else ""
        return (
            f"{kind}{self.mean:.4f}{spread} ({count} episode{'s' if count > 1 else ''}, statistics: {self.statistics})"
        )

    def __repr__(self) -> str:
        return f"<Score {self}>"

    def _repr_html_(self) -> str:
        rows = [(str(step), f"{mean:.4f}", f"{half:.4f}") for step, (mean, half) in enumerate(self.per_step)]
        kind = "loss" if self.accuracy is None else "accuracy"
        return table(str(self), ("inner steps", kind, "95 % interval, half"), rows)

    def plot(self) -> Any:
        """A matplotlib figure of the mean and its 95 % interval after each inner step."""
        drawn, (axes,) = figure(1)
        means, halves = zip(*self.per_step, strict=True)
        axes.errorbar(range(len(means)), means, halves, marker="o", capsize=3)
        axes.set(xlabel="inner steps", ylabel="loss" if self.accuracy is None else "accuracy")
        return drawn


@torch.no_grad()
def evaluate(
    model: nn.Module,
    episodes: Iterable[Episodes],
    predictor: Predictor,
    *,
    chunk_size: int | None = None,
    every_step: bool = True,
    progress: bool = False,
) -> Score:
    """Test a predictor: accuracy and loss on the query set of every episode, after every inner step or the last alone.

    The model is in eval mode meanwhile, so dropout rests; `TaskNorm` works the same in both modes.
    With `progress` a terminal shows a bar.

    Raises:
        ValueError: there are no episodes.
    """
    losses: list[Tensor] = []
    right: list[Tensor | None] = []
    bound = bind(model, predictor)
    with resting(model):
        for batch in watched(episodes, "episodes", progress):
            batch = check_episodes(batch, query_y=True)
            outputs = bound(batch, chunk_size=chunk_size, every_step=every_step)
            losses.append(torch.stack([task_losses(predictor.loss, step, batch.query_y) for step in rows(outputs)]))
            right.append(accuracies(outputs, batch.query_y, batch.support_y, predictor.loss))
    if not losses:
        raise ValueError("there are no episodes to evaluate; check the stream's `count`")
    known = [part for part in right if part is not None]
    accuracy = torch.cat(known, 1).cpu() if len(known) == len(right) else None
    return Score(accuracy, torch.cat(losses, 1).cpu(), describe_statistics(model, predictor.statistics))
