"""What carries a plan out: this process, several on this machine, or a Ray cluster. All may work in one store at once.

Several machines without Ray: the same command on each, on a disk that they share.
"""
