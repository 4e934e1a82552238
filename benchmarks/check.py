"""Do all contenders compute the same thing? In float64, on the networks of the cases, two tasks with few images.

Each is held against the textbook loop on the network that it uses: the peers' shared one, or innerloop's own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import torch

from benchmarks.cases import CASES, Case
from benchmarks.contenders import contender
from innerloop import tune_cpu

TOLERANCE = 1e-8
STEPS = 3  # the losses of the second and third step depend on the meta-gradient
PAIRS = {"higher": "textbook", "torchopt": "textbook", "innerloop": "same-net"}


def check(cases: list[str], algorithms: list[str], names: list[str]) -> bool:
    """Print how far each contender is from the textbook loop; False where one is too far."""
    tune_cpu()  # here no one is timed
    agree = True
    for letter, algorithm in product(cases, algorithms):
        case = replace(CASES[letter], tasks=2, query=1, steps=3, adapt_steps=3)
        for name, textbook in PAIRS.items():
            if name in names:
                want, got = values(textbook, case, algorithm), values(name, case, algorithm)
                off = (got - want).abs().max().item()
                agree = agree and off < TOLERANCE  # a NaN does not agree
                losses = ", ".join(f"{loss:.6f}" for loss in got[:STEPS].tolist())
                print(f"({letter}) {algorithm}: {name} losses {losses}; {textbook} differs by {off:.1e}", flush=True)
    print("all agree" if agree else f"NOT EQUAL: a difference is above {TOLERANCE}")
    return agree


@cache
def values(name: str, case: Case, algorithm: str) -> torch.Tensor:
    """The losses of the first training steps, then the query outputs after adapting at test."""
    who = contender(name)
    train, adapt = who.train(case, algorithm, torch.float64), who.adapt(case, algorithm, torch.float64)
    losses = torch.tensor([train() for _ in range(STEPS)], dtype=torch.float64)
    return torch.cat([losses, adapt().detach().flatten()])
