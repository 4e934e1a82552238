"""Meta-reinforcement learning: MAML and ANIL with policy gradients in the inner loop and TRPO in the outer one."""
