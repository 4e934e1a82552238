"""Trust-region policy optimisation: conjugate gradients, and a line search (Schulman et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trpo:
    """The outer step; the defaults are those of pytorch-maml-rl at 493e677."""

    max_kl: float = 0.01
    """bound on the mean KL divergence of a step, in nats"""
    kl: Literal["mean", "sum"] = "mean"
    """over the numbers of an action: 493e677 averages, which widens the bound six times for the cheetah"""
    cg_steps: int = 10
    cg_tolerance: float = 1e-10
    """squared residual at which the conjugate gradients stop"""
    damping: float = 1e-5
    backtracks: int = 15
    shrink: float = 0.8
    """what a refused step is multiplied by"""
    curvature_every: int = 5
    """curvature sees every n-th step of each trajectory; 1 is exact. Gradient and line search always see all"""


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
