"""Who takes part, by name: how to build a training step, an adapt-and-predict, and what a run of theirs starts with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks import peers
from benchmarks.cases import Case


class Contender(NamedTuple):
    train: Callable[..., peers.Train]  # (case, algorithm[, dtype]) -> one meta-training step
    adapt: Callable[..., peers.Adapt]  # (case, algorithm[, dtype]) -> one adapt-and-predict
    start: Callable[[], object] = lambda: None  # called once in its process, before anything else


PEERS = ("textbook", "higher", "torchopt")
OURS: dict[str, Callable[[Case], int | None]] = {  # how many tasks are one vmapped batch
    "innerloop": lambda _: None,  # what the library decides
    "one-by-one": lambda _: 1,
    "all-at-once": lambda case: case.tasks,
}
NAMES = (*OURS, *PEERS, "same-net")  # same-net: the textbook loop on innerloop's network


def contender(name: str) -> Contender:
    """One of `NAMES`. innerloop is imported only where it takes part: a peer's process knows nothing of it."""
    if name in OURS:
        import innerloop
        from benchmarks import ours

        return Contender(partial(ours.train, chunk_size=OURS[name]), ours.adapt, innerloop.tune_cpu)
    if name == "same-net":
        from benchmarks import ours

        make = ours.network
        return Contender(partial(peers.textbook_train, make=make), partial(peers.textbook_adapt, make=make))
    return {
        "textbook": Contender(peers.textbook_train, peers.textbook_adapt),
        "higher": Contender(peers.higher_train, peers.higher_adapt),
        "torchopt": Contender(peers.torchopt_train, peers.torchopt_adapt),
    }[name]
