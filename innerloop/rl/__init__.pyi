from .environment import Actions, Environment
from .gym import GymTasks
from .half_cheetah import HalfCheetah
from .meta import Collected, Improvement, adapt, collect, improve
from .navigation import Navigation
from .options import Advantage, Trpo
from .policy import Policy
from .reuse import Change, change, freezing
from .rollout import Trajectories, rollout

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
