"""Meta-reinforcement learning: MAML and ANIL with policy gradients in the inner loop and TRPO in the outer one.

Importing it needs neither mujoco nor gymnasium."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
