"""How similar unrelated activations look: with few data points every measure finds some likeness in pure noise."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

LOUD = 0.5  # a noise floor above this draws a warning
CALLER = 4  # frames from warnings.warn up to whoever called the measure


def noise_cca(x: Tensor, y: Tensor, points: int) -> Tensor:
    """The mean canonical correlation of independent noise with x and y directions, both (...), in so many data points.

    The limit for many directions (Wachter, 1980): squared correlations r spread over [low, high] with the density
    sqrt((high - r) (r - low)) / (2 pi a r (1 - r)), and where x + y > n - 1, that many are exactly 1. For few
    directions it is a little high, by 3 % for five on each side and 6 % for one. Data points that depend on each
    other, such as neighbouring pixels, count as fewer: the true floor is then higher.
    """
    a, b = torch.minimum(x, y).double() / (points - 1), torch.maximum(x, y).double() / (points - 1)
    middle = a * (1 - b) + b * (1 - a)
    half = 2 * (a * b * (1 - a) * (1 - b)).clamp(min=0).sqrt()
    angle = (torch.arange(256, device=a.device, dtype=a.dtype) + 0.5) * math.pi / 256
    r = middle[..., None] + half[..., None] * angle.cos()
    spread = (half[..., None] * angle.sin()).square() / (r.sqrt() * (1 - r))
    mean = spread.mean(-1) / (2 * a) + ((a + b - 1) / a).clamp(min=0)
    return torch.where(a > 0, mean, 0.0).clamp(max=1)


def warn_of_noise(floor: Tensor, points: int, what: str) -> None:
    """Warn where noise alone would score above `LOUD`; for leading axes, the highest floor counts."""
    highest = float(floor.max())
    if highest > LOUD:
        warnings.warn(
            f"{what} of {points} data points: unrelated noise would score {highest:.2f}. Use more data points.",
            UserWarning,
            stacklevel=CALLER,
        )


def warn_of_silence(silent: Tensor, what: str, caller: int = CALLER) -> None:
    """Warn where one of the two sides, (...) bool, never changes."""
    if silent.any():
        where = f" in {int(silent.sum())} of {silent.numel()} pairs" if silent.ndim else ""
        warnings.warn(
            f"{what}: one side is constant over all data points{where}, which counts as 0.",
            UserWarning,
            stacklevel=caller,
        )
