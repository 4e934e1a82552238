"""A step of the outer loop on other terms: as one CUDA graph, over several processes, for several seeds at once.

Nothing in here may change a number beyond rounding; `step.OuterStep` run as it stands is what all are held to.
"""
