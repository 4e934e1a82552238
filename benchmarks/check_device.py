"""python -m benchmarks.check_device cuda

Does a device compute what a CPU does: captured against eager against CPU, and a resumed capture against a whole one.

Numbers of different devices differ by rounding, and training amplifies that, so that a few steps are compared.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import Tensor

from innerloop.algorithms import anil, fomaml, maml
from innerloop.data.bank import Bank
from innerloop.models import conv4
from innerloop.parallel.captured import Captured
from innerloop.parallel.step import OuterStep, number

STEPS = 6
RULES = {"maml": maml(3, 0.1), "fomaml": fomaml(3, 0.1), "anil": anil(3, 0.1)}


def outer_step(algorithm: str, device: str) -> OuterStep:
    """A small problem: 5-way 1-shot on noise, with the paper's network in small."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8 * 20, 20, 20, 3), generator=generator, dtype=torch.uint8)
    bank = Bank.stack(images, [20] * 8, [f"class {i}" for i in range(8)], white=255, turns=True).to(device)
    model = conv4(5, channels=3, size=20, width=8, generator=generator).to(device)
    adam = torch.optim.Adam(model.parameters(), 1e-3, capturable=device == "cuda")
    return OuterStep(model, bank.episodes(5, 1, 5, tasks=4, count=100), RULES[algorithm], adam, clip=0.1)


def taken(step: OuterStep, first: int, last: int, *, captured: bool) -> Tensor:
    """The losses of these steps, (n,), on the CPU."""
    take = Captured(step) if captured else lambda index: step(number(index, step.optimizer))
    return torch.stack([take(index)["loss"] for index in range(first, last)]).cpu()


def check(device: str) -> dict[str, Any]:
    """How far apart the losses are, and whether all is well."""
    found: dict[str, Any] = {}
    for algorithm in RULES:
        on_cpu = taken(outer_step(algorithm, "cpu"), 0, STEPS, captured=False)
        eager = taken(outer_step(algorithm, device), 0, STEPS, captured=False)
        whole = outer_step(algorithm, device)
        captured = taken(whole, 0, STEPS, captured=True)
        begun, rest = outer_step(algorithm, device), outer_step(algorithm, device)
        taken(begun, 0, STEPS // 2, captured=True)
        rest.model.load_state_dict(begun.model.state_dict())
        rest.optimizer.load_state_dict(begun.optimizer.state_dict())
        resumed = taken(rest, STEPS // 2, STEPS, captured=True)
        found[algorithm] = {
            "eager_against_cpu": (eager - on_cpu).abs().max().item(),
            "captured_against_eager": (captured - eager).abs().max().item(),
            "resume_is_exact": torch.equal(resumed, captured[STEPS // 2 :]),
        }
    found["well"] = all(
        each["eager_against_cpu"] < 2e-2 and each["captured_against_eager"] < 1e-3 and each["resume_is_exact"]
        for each in found.values()
    )
    return found


if __name__ == "__main__":
    report = check(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    print(json.dumps(report, indent=1))
    sys.exit(not report["well"])
