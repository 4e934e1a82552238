"""The outer loop: meta-train a model over batches of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.inner import check_label, largest_label
from innerloop.predictors import Predictor
from innerloop.tasks import Episodes, has_labels, pick_chunk_size


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
    clip: float | None = None,
    chunk_size: int | None = None,
) -> Iterator[Step]:
    """One optimizer step for every batch of episodes; stop when you like.

    Args:
        model: the network, in the mode (train or eval) it is in; its parameters are changed in place.
        episodes: batches of tasks, see `Bank.episodes`.
        predictor: an `InnerLoop` or any other predictor that can be differentiated.
        optimizer: over the model's parameters.
        clip: clip each element of the meta-gradient to [-clip, clip].
        chunk_size: tasks whose graph is held in memory at once, see `predict`.
    """
    for number, batch in enumerate(episodes, start=1):
        optimizer.zero_grad()
        value, accuracy = meta_gradient(model, batch, predictor, chunk_size=chunk_size)
        if clip is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        yield Step(number, value, accuracy)


def meta_gradient(
    model: nn.Module,
    episodes: Episodes,
    predictor: Predictor,
    *,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Add the gradient of the mean query loss to `.grad`, chunk by chunk; return that loss and the accuracy."""
    chunk_size = pick_chunk_size(episodes, chunk_size)
    tasks = len(episodes.query_x)
    losses: list[Tensor] = []
    right: list[Tensor] = []
    for chunk in zip(*(part.split(chunk_size) for part in episodes), strict=True):
        chunk = Episodes(*chunk)
        outputs = predictor(model, chunk, chunk_size=chunk_size)[-1]
        check_label(largest_label(chunk.query_y), outputs)
        share = torch.stack(list(map(predictor.loss, outputs, chunk.query_y))).sum() / tasks
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
