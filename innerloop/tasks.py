"""Tasks: episodes as trees of tensors, how many run as one batch, and running them, in a plain loop or with vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from innerloop.trees import Tree, as_tree, each, joined, leaves, length, rows

# Above so many numbers in its images, a CPU is faster one task at a time: small tasks share the cost of a call, large
# ones stay in its caches and need less memory.
LARGE_TASK = 2**17


class Episodes(NamedTuple):
    """A batch of tasks as four tensors; the first axis is the task.

    Each may also be a tree of tensors, a dict or tuple with the same first axes, for models that take or put out more
    than one.
    """

    support_x: Tensor  # (t, s, *x)
    support_y: Tensor  # (t, s)
    query_x: Tensor  # (t, q, *x)
    query_y: Tensor  # (t, q)


def has_labels(targets: Tree) -> bool:
    """Whether the targets are class labels rather than values."""
    return isinstance(targets, Tensor) and targets.dtype in (torch.int64, torch.int32, torch.int16, torch.int8)


def check_episodes(given: Any, *, query_y: bool = False) -> Episodes:
    """Four trees with the same number of tasks, of a tuple or of numpy arrays too; `query_y` is used where it is asked.

    Raises:
        ValueError: these are no four parts, an axis is missing, or the images are bytes.
    """
    if not isinstance(given, tuple | list) or len(given) != 4:
        raise ValueError(
            f"expected Episodes(support_x, support_y, query_x, query_y), got {_kind(given)}; of a stream, pass one "
            "batch, such as stream[0]"
        )
    episodes = Episodes(*map(as_tree, given))
    for name, part in episodes._asdict().items():
        if not leaves(part):
            raise ValueError(f"{name} has no tensor, got {_kind(part)}: pass a tensor, or a dict or tuple of tensors")
        least = min(x.ndim for x in leaves(part))
        if least < 2:
            shapes = " and ".join(str(tuple(x.shape)) for x in leaves(part))
            raise ValueError(
                f"{name} has the shape {shapes}, and the first two axes are the task and the item: for one task, add "
                "its axis with unsqueeze(0)"
            )
    counts = {name: sorted({len(x) for x in leaves(part)}) for name, part in episodes._asdict().items()}
    if len({tuple(count) for count in counts.values()}) > 1 or len(counts["support_x"]) > 1:
        said = ", ".join(f"{name} {' and '.join(map(str, count))}" for name, count in counts.items())
        raise ValueError(f"the first axis is the task, and the parts have other numbers of tasks: {said}")
    for kind in ("support", "query") if query_y else ("support",):
        x, y = (leaves(part)[0] for part in (getattr(episodes, f"{kind}_x"), getattr(episodes, f"{kind}_y")))
        check_items(x[0], y[0], kind)
    return episodes


def check_items(x: Tree, y: Tree, kind: str) -> None:
    """Refuse a set of one task whose inputs and targets do not fit, (n, *x) and (n, ...)."""
    if length(x) != length(y):
        raise ValueError(f"the {kind} set has {length(x)} inputs and {length(y)} targets a task: give one an input")
    if any(part.dtype == torch.uint8 for part in leaves(x)):
        raise ValueError(f"{kind}_x is uint8, and networks take floats: pass {kind}_x / 255, numbers in [0, 1]")


def _kind(given: Any) -> str:
    parts = f" of {len(given)} parts" if isinstance(given, tuple | list) else ""
    return f"a {type(given).__name__}{parts}"


def pick_chunk_size(episodes: Sequence[Tree], chunk_size: int | None) -> int:
    """How many tasks run as one batch: all on a GPU; on a CPU all small ones, or one large one at a time."""
    inputs = [*leaves(episodes[0]), *leaves(episodes[2])]
    tasks = len(inputs[0])
    if chunk_size is None and inputs[0].device.type == "cpu":
        numbers = sum(x.numel() for x in inputs) // max(tasks, 1)
        chunk_size = 1 if numbers > LARGE_TASK else tasks
    chunk_size = tasks if chunk_size is None else chunk_size
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a whole number from 1, or None, got {chunk_size!r}")
    return max(min(chunk_size, tasks), 1)


def one_by_one(one_task: Callable[..., Tree], tasks: Sequence[Tree]) -> Tree:
    """`one_task` for every task in a plain loop, stacked."""
    return joined(torch.stack, [one_task(*task) for task in zip(*map(rows, tasks), strict=True)])


def over_tasks(one_task: Callable[..., Tree], tasks: Sequence[Tree], chunk_size: int) -> tuple[Tree, bool]:
    """`one_task` for every task, stacked: with vmap in chunks, or in a plain loop where that is not possible.

    Also whether vmap could batch it, which takes no recurrent layer, no hooks on what the graph saves and no questions
    about values. `one_task` is told by `looped` which of the two it is in.
    """
    if chunk_size > 1:
        try:
            return vmap(partial(one_task, looped=False), randomness="different", chunk_size=chunk_size)(*tasks), True
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # a plain loop complains itself where batching is not the reason
            pass
    return one_by_one(partial(one_task, looped=True), tasks), chunk_size == 1


def split(episodes: Episodes, chunk_size: int) -> list[Episodes]:
    """The tasks in chunks."""
    starts = range(0, length(episodes.query_x), chunk_size)
    return [Episodes(*(each(lambda x, i=i: x[i : i + chunk_size], part) for part in episodes)) for i in starts]
