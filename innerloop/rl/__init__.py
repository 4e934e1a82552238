"""Meta-reinforcement learning: MAML and ANIL with policy gradients in the inner loop and TRPO in the outer one.

Importing it needs neither mujoco nor gymnasium.
"""

from innerloop.rl.advantages import Advantage
from innerloop.rl.environment import Actions, Environment
from innerloop.rl.gym import GymTasks
from innerloop.rl.half_cheetah import HalfCheetah
from innerloop.rl.meta import Collected, Improvement, adapt, collect, improve
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import Policy
from innerloop.rl.reuse import Change, change, freezing
from innerloop.rl.rollout import Trajectories, rollout
from innerloop.rl.trpo import Trpo

__all__ = [
    "Actions",
    "Advantage",
    "Change",
    "Collected",
    "Environment",
    "GymTasks",
    "HalfCheetah",
    "Improvement",
    "Navigation",
    "Policy",
    "Trajectories",
    "Trpo",
    "adapt",
    "change",
    "collect",
    "freezing",
    "improve",
    "rollout",
]
