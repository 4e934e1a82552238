"""How a layer separates classes: cosines within and between them (Oh et al., 2021, figure 2 of BOIL)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.similarity.form import check_finite


@dataclass(frozen=True)
class ClassCosines:
    """Mean cosines of pairs of inputs, from -1 to 1."""

    within: Tensor  # (...), of two inputs of one class
    between: Tensor  # (...), of inputs of two classes


def class_cosines(features: Tensor, labels: Tensor) -> ClassCosines:
    """Mean cosine similarity of features, (..., n, p), within and between the classes of labels, (..., n).

    Flatten a conv map first: `features.flatten(1)`. It does not change under rotations and where an input is scaled.

    Raises:
        ValueError: the shapes do not fit, a value is NaN or infinite, or there is a single class or no class with two
            inputs.
    """
    if features.ndim < 2 or features.shape[:-1] != labels.shape:
        raise ValueError(
            f"features are (..., n, p) and labels (..., n), got {tuple(features.shape)} and {tuple(labels.shape)}: "
            "flatten conv maps first"
        )
    rows = F.normalize(features.detach().double(), dim=-1)
    check_finite(rows)
    cosines = rows @ rows.mT
    same = labels[..., :, None] == labels[..., None, :]
    apart, same = ~same, same & ~torch.eye(labels.shape[-1], dtype=torch.bool, device=labels.device)
    if not (same.any(-1).any(-1).all() and apart.any(-1).any(-1).all()):
        raise ValueError("cosines within and between classes need two classes, and two inputs of one: use more inputs")
    within, between = ((cosines * pairs).sum((-2, -1)) / pairs.sum((-2, -1)) for pairs in (same, apart))
    return ClassCosines(within, between)
