"""Does it matter which class gets which output of the head? (Ye & Chao 2022)"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from math import factorial

import torch
from torch import Tensor, nn

from innerloop.evaluation import evaluate
from innerloop.inner import InnerLoop
from innerloop.tasks import Episodes


def assignments(model: nn.Module, episodes: Iterable[Episodes], inner: InnerLoop, *, most: int = 24) -> Tensor:
    """Accuracy of each task under different assignments of its classes to the outputs, (assignments, tasks).

    All w! of them where that is at most `most`, else as many drawn at random, the same for each task. They differ for
    a head whose outputs start from different weights, and not at all for one that starts at zero (Ye & Chao 2022).
    """
    rows: list[Tensor] = []
    for batch in episodes:
        way = int(batch.support_y.max()) + 1
        orders = _orders(way, most).to(batch.support_y.device)
        scores = [
            evaluate(model, [batch._replace(support_y=order[batch.support_y], query_y=order[batch.query_y])], inner)
            for order in orders
        ]
        rows.append(torch.stack([score.values[-1] for score in scores]))
    return torch.cat(rows, 1)


def spread_of(accuracies: Tensor) -> Tensor:
    """The gap between the best assignment and the worst, task by task, (tasks,), of (assignments, tasks)."""
    return accuracies.amax(0) - accuracies.amin(0)


def _orders(way: int, most: int) -> Tensor:
    """(assignments, w); the first is the one as given."""
    if factorial(way) <= most:
        return torch.tensor(list(permutations(range(way))))
    made = torch.Generator().manual_seed(way)
    drawn = [torch.randperm(way, generator=made) for _ in range(most - 1)]
    return torch.stack([torch.arange(way), *drawn])
