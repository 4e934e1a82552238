"""The options of meta-RL as values: how advantages are estimated, how the outer step is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["relu", "tanh"]


@dataclass(frozen=True)
class Advantage:
    """How advantages are estimated; the defaults are those of the README of pytorch-maml-rl at 493e677."""

    discount: float = 0.99
    smoothing: float = 1.0
    """lambda of GAE (Schulman et al. 2016)"""
    baseline: Literal["before", "each"] = "before"
    """before: fitted on the trajectories before adaptation and used for those after it, too (493e677); each: fitted on
    every batch of trajectories (cbfinn/maml_rl, and pytorch-maml-rl at 21d4ba1)"""
    ridge: float = 1e-5


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
