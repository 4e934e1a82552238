"""Heads that need no gradient steps: prototypes, and ridge regression solved exactly. Predictors, as `NIL` is.

Logistic regression on normalised features (Tian et al. 2020) is none of its own: it is ANIL from a zero head with many
steps, `InnerLoop(("head.*",), steps=300, head_start="zero")`.

Shapes: t tasks, s support items and q query items a task, w ways, f features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.inner import Loss
from innerloop.norm import check_statistics
from innerloop.predictors import by_features
from innerloop.tasks import Episodes

Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Prototypes:
    """The nearest class mean: ProtoNet (Snell et al. 2017), and with cosines the rule of Baseline++ (Chen et al. 2019).

    The outputs are -scale |q - c|² or scale cos(q, c), c the mean of a class's support features. `Prototypes(centre=m)`
    with the mean feature m of the training classes is SimpleShot (Wang et al. 2019): features minus m, on the unit
    sphere, nearest mean. With cosines each support feature counts the same, however long it is.

    Example:
        >>> import torch
        >>> from innerloop import Episodes, Prototypes
        >>> support, query = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> labels = torch.tensor([[0, 1]])
        >>> model = torch.nn.Sequential(); model.head = torch.nn.Linear(2, 2)
        >>> Prototypes()(model, Episodes(support, labels, query, labels[:, :1])).tolist()
        [[[[-2.0, -1.0]]]]
    """

    way: int | None = None  # None: the largest support label + 1, which waits for a GPU
    distance: Distance = "euclidean"
    scale: float | Tensor = 1.0  # of the outputs; a tensor may be learnt with the network
    centre: Tensor | None = None  # (f,), subtracted before features are brought to the unit sphere (SimpleShot)
    head: str = "head"  # the module to leave out
    loss: Loss = F.cross_entropy  # of the outer loop
    statistics: Statistics = "query"  # whose normalise the query set, see `innerloop.norm`

    def __post_init__(self) -> None:
        if self.distance not in get_args(Distance):
            raise ValueError(f"distance must be one of {', '.join(get_args(Distance))}, got {self.distance!r}")
        _check_positive("scale", self.scale)
        check_statistics(self.statistics)

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,  # noqa: ARG002  the signature of a predictor
    ) -> Tensor:
        """Query outputs, (1, t, q, w): there is no step to take."""
        return by_features(model, episodes, self, self.answer, chunk_size)

    def answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """From features (s, f) and (q, f) and one-hot targets (s, w) to outputs (q, w)."""
        if self.centre is not None:
            support, query = (F.normalize(x - self.centre, dim=1) for x in (support, query))
        if self.distance == "cosine":
            support, query = F.normalize(support, dim=1), F.normalize(query, dim=1)
        counts = targets.sum(0)
        means = (targets.T @ support) / counts.clamp_min(1).unsqueeze(1)
        if self.distance == "cosine":
            outputs = query @ F.normalize(means, dim=1).T
        else:  # without the differences, (q, w, f); about the mean of the prototypes, where no digits are lost
            middle = means.mean(0)
            query, means = query - middle, means - middle
            outputs = 2 * query @ means.T - query.square().sum(1, keepdim=True) - means.square().sum(1)
        return (self.scale * outputs).masked_fill(counts == 0, -math.inf)  # no prototype


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from features to one-hot labels, solved exactly: R2D2 (Bertinetto et al. 2019).

    The inner loop of a linear head with a squared loss, run to its end, and differentiable: an s x s solve, whatever
    the number of features. The outputs are scale * prediction + offset, for a cross entropy to learn from. Pass
    `strength`, `scale` or `offset` as tensors that the optimizer holds, and they are learnt with the network.
    """

    way: int | None = None  # None: the largest support label + 1, which waits for a GPU
    strength: float | Tensor = 1.0  # of the penalty on the weights' squares; above 0
    scale: float | Tensor = 1.0  # of the outputs
    offset: float | Tensor = 0.0  # of the outputs; it changes no prediction
    intercept: bool = False  # fit one, unpenalised, for each class
    normalise: bool = False  # bring each item's features to the unit sphere first
    head: str = "head"  # the module to leave out
    loss: Loss = F.cross_entropy  # of the outer loop
    statistics: Statistics = "query"  # whose normalise the query set, see `innerloop.norm`

    def __post_init__(self) -> None:
        _check_positive("strength", self.strength)
        _check_positive("scale", self.scale)
        check_statistics(self.statistics)

    def __call__(
        self,
        model: nn.Module,
        episodes: Episodes,
        *,
        chunk_size: int | None = None,
        every_step: bool = False,  # noqa: ARG002  the signature of a predictor
    ) -> Tensor:
        """Query outputs, (1, t, q, w): there is no step to take."""
        return by_features(model, episodes, self, self.answer, chunk_size)

    def answer(self, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """From features (s, f) and (q, f) and one-hot targets (s, w) to outputs (q, w)."""
        if self.normalise:
            support, query = F.normalize(support, dim=1), F.normalize(query, dim=1)
        mean = targets.mean(0) if self.intercept else torch.zeros_like(targets[0])
        if self.intercept:
            centre = support.mean(0)
            support, query = support - centre, query - centre
        penalty = self.strength * torch.eye(len(support), dtype=support.dtype, device=support.device)
        weights = torch.linalg.solve(support @ support.T + penalty, targets - mean)  # of the support items, (s, w)
        return self.scale * (query @ support.T @ weights + mean) + self.offset


def _check_positive(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor) and not (0 < value < math.inf):
        raise ValueError(f"{name} must be a positive number, got {value}")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} must be one number, got a tensor {tuple(value.shape)}")
