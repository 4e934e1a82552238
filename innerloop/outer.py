"""The outer loop: meta-train a model over batches of episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.accuracy import accuracies, check_label, largest_label
from innerloop.predictors import BoundPredictor, Predictor, bind
from innerloop.tasks import Episodes, check_episodes, pick_chunk_size, split
from innerloop.trees import Tree, each, length, rows


class Step(NamedTuple):
    """What one meta-training step measured, on the model's device: reading a value waits for it."""

    number: int  # 1 after the first step
    loss: Tensor  # () mean query loss over the meta batch, before the update
    accuracy: Tensor | None  # () mean query accuracy, or None where shapes do not say what an answer is


def meta_train(
    model: nn.Module,
    episodes: Iterable[Episodes],
    predictor: Predictor,
    optimizer: torch.optim.Optimizer,
    *,
    clip: float | None = None,
    chunk_size: int | None = None,
) -> Iterator[Step]:
    """One optimizer step for every batch of episodes; stop when you like.

    Args:
        model: the network, in the mode (train or eval) it is in; its parameters are changed in place.
        episodes: batches of tasks, see `Bank.episodes`.
        predictor: an `InnerLoop` or any other predictor that can be differentiated; the meta-objective is the mean over
            tasks of its `loss`.
        optimizer: over the model's parameters, and over step sizes that are learnt.
        clip: clip each element of the meta-gradient to [-clip, clip].
        chunk_size: tasks whose graph is held in memory at once, see `predict`.
    """
    bound = bind(model, predictor)
    for number, batch in enumerate(episodes, start=1):
        optimizer.zero_grad()
        value, accuracy = _meta_gradient(bound, batch, predictor, chunk_size)
        if clip is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        yield Step(number, value, accuracy)


def meta_gradient(
    model: nn.Module, episodes: Episodes, predictor: Predictor, *, chunk_size: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Add the gradient of the mean query loss to `.grad`, chunk by chunk; return that loss and the accuracy.

    The loss is the mean over tasks of `predictor.loss(outputs of the task, its labels)`, whatever the chunks.
    """
    return _meta_gradient(bind(model, predictor), episodes, predictor, chunk_size)


def _meta_gradient(
    bound: BoundPredictor, episodes: Episodes, predictor: Predictor, chunk_size: int | None
) -> tuple[Tensor, Tensor | None]:
    episodes = check_episodes(episodes, query_y=True)
    size, tasks = pick_chunk_size(episodes, chunk_size), length(episodes.query_x)
    values: list[Tensor] = []
    right: list[Tensor | None] = []
    for chunk in split(episodes, size):
        outputs = each(lambda x: x[-1], bound(chunk, chunk_size=size))
        losses = task_losses(predictor.loss, outputs, chunk.query_y)
        share = losses.sum() / tasks
        _backward(share)
        values.append(share.detach())
        right.append(
            accuracies(each(lambda x: x.detach()[None], outputs), chunk.query_y, chunk.support_y, predictor.loss)
        )
    known = [part[0] for part in right if part is not None]
    return torch.stack(values).sum(), torch.cat(known).nanmean() if known else None


def task_losses(loss: Callable[[Any, Any], Tensor], outputs: Tree, targets: Tree) -> Tensor:
    """The loss of each task, (t,), of outputs (t, q, ...) and targets (t, q, ...)."""
    found: list[Tensor] = []
    largest = largest_label(targets)
    for given, wanted in zip(rows(outputs), rows(targets), strict=True):
        check_label(largest, given, loss)
        value = loss(given, wanted)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss of a task must be one number, got {shape}: take its mean over the items")
        found.append(value.reshape(()))
    return torch.stack(found)


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
