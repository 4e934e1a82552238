"""Tasks: episodes as tensors, how many run as one batch, and running them, in a plain loop or with vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

# Above so many numbers in its images, a CPU is faster one task at a time: small tasks share the cost of a call, large
# ones stay in its caches and need less memory.
LARGE_TASK = 2**17


class Episodes(NamedTuple):
    """A batch of tasks as four tensors; the first axis is the task."""

    support_x: Tensor  # (t, s, *x)
    support_y: Tensor  # (t, s)
    query_x: Tensor  # (t, q, *x)
    query_y: Tensor  # (t, q)


def has_labels(episodes: Episodes) -> bool:
    """Whether the targets are class labels rather than values."""
    return not episodes.query_y.is_floating_point()


def pick_chunk_size(episodes: tuple[Tensor, Tensor, Tensor, Tensor], chunk_size: int | None) -> int:
    """How many tasks run as one batch: all on a GPU; on a CPU all small ones, or one large one at a time."""
    support_x, _, query_x, _ = episodes
    tasks = len(support_x)
    if chunk_size is None and support_x.device.type == "cpu":
        numbers = (support_x.numel() + query_x.numel()) // max(tasks, 1)
        chunk_size = 1 if numbers > LARGE_TASK else tasks
    chunk_size = tasks if chunk_size is None else chunk_size
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}")
    return min(chunk_size, tasks)


def over_tasks(
    one_task: Callable[[Tensor, Tensor, Tensor], Tensor], tasks: tuple[Tensor, Tensor, Tensor], chunk_size: int
) -> Tensor:
    """`one_task(support_x, support_y, query_x)` for every task, stacked: a plain loop, or vmap in chunks.

    Raises:
        RuntimeError: the model has what vmap cannot batch, such as a recurrent layer or asking for a value.
    """
    if chunk_size == 1:
        return torch.stack([one_task(*task) for task in zip(*tasks, strict=True)])
    try:
        return vmap(one_task, randomness="different", chunk_size=chunk_size)(*tasks)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        support_x, support_y, query_x = tasks
        one_task(support_x[0], support_y[0], query_x[0])  # complains itself where batching is not the reason
        reason = str(error).split(". ")[0]
        raise RuntimeError(f"this model cannot run batched over tasks ({reason}). Pass chunk_size=1.") from error
