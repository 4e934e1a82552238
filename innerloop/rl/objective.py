"""The two objectives, of the inner and of the outer loop, as sums over tasks.

Shapes: t tasks, x states a task, a numbers an action.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from innerloop.rl.advantages import Samples
from innerloop.rl.policy import Outputs, kl, log_prob


def reinforce(outputs: Outputs, batch: Samples) -> Tensor:
    """-mean(log pi(a | s) A): its gradient is the policy gradient (REINFORCE with a baseline, the inner loss), ()."""
    return -(batch.weights * batch.advantages * log_prob(outputs, batch.actions)).sum()


def surrogate(outputs: Outputs, old_log_prob: Tensor, batch: Samples) -> Tensor:
    """-mean(pi(a | s) / pi_old(a | s) A), what TRPO lowers (Schulman et al. 2015), ()."""
    ratio = (log_prob(outputs, batch.actions) - old_log_prob).exp()
    return -(batch.weights * batch.advantages * ratio).sum()


def divergence(new: Outputs, old: Outputs, batch: Samples, over: Literal["mean", "sum"]) -> Tensor:
    """The mean of KL(new, old) over the states, ()."""
    return (batch.weights * kl(new, old, over)).sum()
