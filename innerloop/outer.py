"""The outer loop: meta-train a model over batches of episodes, and test it on others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.batching import tasks_at_once
from innerloop.inner import Episodes, Loss, check_label, largest_label
from innerloop.modules import resting
from innerloop.norm import Norm, describe_norm
from innerloop.rules import Predictor


class Step(NamedTuple):
    """What one meta-training step measured, on the model's device: reading a value waits for it."""

    number: int  # 1 after the first step
    loss: Tensor  # () mean query loss over the meta batch, before the update
    accuracy: Tensor | None  # () mean query accuracy, or None where the targets are not labels


def meta_train(
    model: nn.Module,
    episodes: Iterable[Episodes],
    predictor: Predictor,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    clip: float | None = None,
    norm: Norm = "transductive",
    at_once: int | None = None,
) -> Iterator[Step]:
    """One optimizer step for every batch of episodes; stop when you like.

    Args:
        model: the network, in the mode (train or eval) it is in; its parameters are changed in place.
        episodes: batches of tasks, see `ImageBank.episodes`.
        predictor: an `InnerLoop` or any other predictor that can be differentiated.
        optimizer: over the model's parameters.
        loss: of the inner loop and of the meta-objective; a mean over items.
        clip: clip each element of the meta-gradient to [-clip, clip].
        norm: whose statistics normalise the query set, see `innerloop.norm`.
        at_once: tasks whose graph is held in memory at once, see `predict`.
    """
    for number, batch in enumerate(episodes, start=1):
        optimizer.zero_grad()
        value, accuracy = meta_gradient(model, batch, predictor, loss=loss, norm=norm, at_once=at_once)
        if clip is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        yield Step(number, value, accuracy)


def meta_gradient(
    model: nn.Module,
    episodes: Episodes,
    predictor: Predictor,
    *,
    loss: Loss = F.cross_entropy,
    norm: Norm = "transductive",
    at_once: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Add the gradient of the mean query loss to `.grad`, chunk by chunk; return that loss and the accuracy."""
    at_once = tasks_at_once(episodes, at_once)
    tasks = len(episodes.query_x)
    losses: list[Tensor] = []
    right: list[Tensor] = []
    for chunk in zip(*(part.split(at_once) for part in episodes), strict=True):
        chunk = Episodes(*chunk)
        outputs = predictor(model, chunk, loss=loss, norm=norm, at_once=at_once)
        check_label(largest_label(chunk.query_y), outputs)
        share = loss(outputs.flatten(0, 1), chunk.query_y.flatten(0, 1)) * (len(outputs) / tasks)
        _backward(share)
        losses.append(share.detach())
        if has_labels(chunk):
            right.append((outputs.detach().argmax(-1) == chunk.query_y).sum())
    accuracy = torch.stack(right).sum() / episodes.query_y.numel() if right else None
    return torch.stack(losses).sum(), accuracy


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        raise RuntimeError(
            f"a layer has no second derivative ({str(error).split('. ')[0]}). Use first_order=True, or run attention "
            "inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH) and recurrent layers on CUDA inside "
            "torch.backends.cudnn.flags(enabled=False)."
        ) from error


def has_labels(episodes: Episodes) -> bool:
    """Whether the targets are class labels rather than values."""
    return not episodes.query_y.is_floating_point()


@dataclass(frozen=True, eq=False)
class Score:
    """How a predictor did, episode by episode and step by step. Printed: the mean and its 95 % interval."""

    accuracy: Tensor | None  # (n + 1, episodes): after 0, 1, ..., n inner steps; None where targets are not labels
    loss: Tensor  # (n + 1, episodes), or (1, episodes) where only the last step was asked for
    norm: str  # whose statistics normalised the query sets

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
        return f"{kind}{self.mean:.4f}{spread} ({count} episode{'s' if count > 1 else ''}, norm: {self.norm})"


@torch.no_grad()
def evaluate(
    predictor: Predictor,
    model: nn.Module,
    episodes: Iterable[Episodes],
    *,
    loss: Loss = F.cross_entropy,
    norm: Norm = "transductive",
    at_once: int | None = None,
    every_step: bool = True,
) -> Score:
    """Test a predictor: accuracy and loss on the query set of every episode, after every inner step or the last alone.

    The model is in eval mode meanwhile, so dropout rests; `TaskNorm` works the same in both modes.

    Raises:
        ValueError: there are no episodes.
    """
    losses: list[Tensor] = []
    accuracies: list[Tensor] = []
    with resting(model):
        for batch in episodes:
            outputs = predictor(model, batch, loss=loss, norm=norm, at_once=at_once, every_step=every_step)
            outputs = outputs if every_step else outputs.unsqueeze(0)  # (n + 1, t, q, w)
            losses.append(torch.stack([torch.stack(list(map(loss, step, batch.query_y))) for step in outputs]))
            if has_labels(batch):
                accuracies.append((outputs.argmax(-1) == batch.query_y).float().mean(-1))
    if not losses:
        raise ValueError("there are no episodes to evaluate; check the stream's `count`")
    accuracy = torch.cat(accuracies, 1).cpu() if accuracies else None
    return Score(accuracy, torch.cat(losses, 1).cpu(), describe_norm(model, norm))
