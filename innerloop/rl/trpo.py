"""Trust-region policy optimisation: conjugate gradients, and a line search (Schulman et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.rl.options import Trpo


class Solution(NamedTuple):
    """What conjugate gradients found."""

    x: Tensor
    image: Tensor  # A x, as far as rounding goes: b less what is left
    steps: int


def conjugate_gradient(times: Callable[[Tensor], Tensor], b: Tensor, steps: int, tolerance: float) -> Solution:
    """Solve A x = b for a symmetric positive definite A, known by its products (Hestenes and Stiefel 1952)."""
    x, left, direction = torch.zeros_like(b), b.clone(), b.clone()
    size, taken = left @ left, 0
    while taken < steps and size > tolerance:
        image = times(direction)
        taken += 1
        length = size / (direction @ image)
        x, left = x + length * direction, left - length * image
        size, before = left @ left, size
        direction = left + size / before * direction
    return Solution(x, b - left, taken)


class Accepted(NamedTuple):
    """What a line search took."""

    step: Tensor
    change: float  # of the surrogate loss, negative
    kl: float
    tried: int


def line_search(measure: Callable[[Tensor], tuple[Tensor, Tensor]], full: Tensor, how: Trpo) -> Accepted | None:
    """The longest of full, shrink full, shrink^2 full, ... that lowers the loss within the trust region.

    Args:
        measure: from a step to (change of the surrogate loss, mean KL divergence), both ().
        full: the step to begin with.
        how: bound, tries, and what to shrink by.

    Returns:
        None if there is none.
    """
    for tried in range(how.backtracks):
        step = how.shrink**tried * full
        change, kl = (float(x) for x in measure(step))
        if change < 0 and kl < how.max_kl:  # false for NaN
            return Accepted(step, change, kl, tried + 1)
    return None
