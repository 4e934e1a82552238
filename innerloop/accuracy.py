"""Right answers: counted on the axis of the classes where shapes tell it, and not at all where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.tasks import has_labels
from innerloop.trees import Tree, bare, logits_of

_IGNORED = -100  # what torch's losses ignore by default


def accuracies(outputs: Tree, labels: Tree, support_y: Tree, loss: Callable[..., Any]) -> Tensor | None:
    """The share of right answers of each task at each step, (k, t), or None where shapes do not say what an answer is.

    Outputs are (k, t, q, w) for labels (t, q), and an answer is one of the labels that the task has; (k, t, q, w, ...)
    or (k, t, q, ..., w) for labels (t, q, ...), of a pixel or a token each. Labels that the loss ignores, and others
    below 0, count as nothing.
    """
    logits = logits_of(outputs)
    if logits is None or not has_labels(labels):
        return None
    axis = class_axis(logits.shape[2:], labels.shape[1:], loss)
    if axis is None:
        return None
    counted = (labels >= 0) & (labels != ignored_by(loss))
    if labels.ndim == 2:
        absent = ~_present(logits.shape[-1], labels, support_y)
        logits = logits.detach().masked_fill(absent.unsqueeze(1), -torch.inf)
    right = (logits.argmax(axis + 2) == labels) & counted
    return right.flatten(2).sum(-1) / counted.flatten(1).sum(-1)


def class_axis(outputs: torch.Size, labels: torch.Size, loss: Callable[..., Any]) -> int | None:
    """The axis of the classes in the outputs of one task; None where there is none, or where it could be two."""
    if len(outputs) != len(labels) + 1 or len(outputs) < 2:
        return None
    second = outputs[0] == labels[0] and outputs[2:] == labels[1:]
    final = outputs[:-1] == labels
    if second and final and len(outputs) > 2:
        second, final = cross_entropic(loss), False
    axis = 1 if second else len(outputs) - 1 if final else None
    return None if axis is None or outputs[axis] < 2 else axis


def cross_entropic(loss: Callable[..., Any]) -> bool:
    """Whether it is torch's cross entropy, which has its classes on the second axis."""
    function, _ = bare(loss)
    return function in (F.cross_entropy, F.nll_loss) or isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss)


def ignored_by(loss: Callable[..., Any]) -> int:
    """The label that it ignores."""
    function, keywords = bare(loss)
    return keywords.get("ignore_index", getattr(function, "ignore_index", _IGNORED))


def _present(way: int, labels: Tensor, support_y: Tree) -> Tensor:
    """Which of the outputs stand for a label of each task, (t, w)."""
    given = [labels, support_y.flatten(1)] if has_labels(support_y) else [labels]
    every = torch.cat([part.to(labels) for part in given], 1).clamp(-1, way) + 1
    present = torch.zeros(len(labels), way + 2, dtype=torch.bool, device=labels.device)
    return present.scatter(1, every.long(), True)[:, 1:-1]


def check_targets(outputs: Tree, targets: Tree, loss: Callable[..., Any]) -> None:
    """Refuse values for the cross entropy, which takes labels or probabilities, and would give a number."""
    if not (cross_entropic(loss) and isinstance(targets, Tensor) and targets.is_floating_point()):
        return
    shares = (
        isinstance(outputs, Tensor) and outputs.shape == targets.shape and targets.ndim > 1 and targets.shape[1] > 1
    )
    if not shares or bool((targets < 0).any()) or not torch.allclose(targets.sum(1), targets.new_ones(()), atol=1e-3):
        raise ValueError(
            f"the targets are values ({targets.dtype}), and the loss is the cross entropy of labels: pass the loss "
            "that fits them, such as innerloop.maml(loss=torch.nn.functional.mse_loss)"
        )


def largest_label(labels: Tree) -> int:
    """-1 where there are no labels, or where knowing would mean to wait for a GPU."""
    known = isinstance(labels, Tensor) and labels.numel() > 0 and labels.device.type == "cpu" and has_labels(labels)
    return int(labels.max()) if known else -1


def check_label(largest: int, outputs: Tree, loss: Callable[..., Any]) -> None:
    """Refuse a label that has no output, (n, w, ...), where the loss is a cross entropy."""
    fits = not isinstance(outputs, Tensor) or outputs.ndim < 2 or largest < outputs.shape[1]
    if not fits and cross_entropic(loss) and largest != ignored_by(loss):
        raise ValueError(
            f"label {largest} does not fit the model's {outputs.shape[1]} outputs: labels start at 0, and the head "
            "needs an output for each way"
        )
