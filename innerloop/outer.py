"""The outer loop: meta-train a model over batches of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.inner import Loss, check_label, largest_label
from innerloop.norm import Norm
from innerloop.predictors import Predictor
from innerloop.tasks import Episodes, has_labels, tasks_at_once


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
