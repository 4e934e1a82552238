"""One rank of a training that a test started: python rank.py FOLDER FIRST LAST HOW."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from innerloop.algorithms import maml
from innerloop.data.bank import Bank
from innerloop.models import conv4
from innerloop.parallel.ranks import RankedStep, Ranks, lead_or_follow
from innerloop.parallel.step import OuterStep

torch.set_num_threads(1)


class Float64:
    """Episodes in double precision, so that only a fault can differ by more than rounding."""

    def __init__(self, stream):
        self.stream = stream

    def at(self, index):
        batch = self.stream.at(index)
        return batch._replace(support_x=batch.support_x.double(), query_x=batch.query_x.double())


def outer_step() -> OuterStep:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 8, 8, 1), generator=generator, dtype=torch.uint8)
    bank = Bank.stack(images, [5] * 4, list("abcd"), white=255)
    model = conv4(3, channels=1, size=8, width=4, pooling="stride", generator=generator).double()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    return OuterStep(model, Float64(bank.episodes(3, 1, 2, tasks=4, count=50)), maml(2, 0.1), adam, clip=0.05)


def lead(ranks: Ranks | None, first: int, last: int, folder: Path, how: str) -> None:
    step = outer_step()
    if (folder / "state").exists():
        model, adam = torch.load(folder / "state")
        step.model.load_state_dict(model)
        step.optimizer.load_state_dict(adam)
    if ranks:
        ranks.agree("one" if how == "unequal" else "same")
    take = RankedStep(step, ranks) if ranks else lambda i: step(torch.tensor(i))
    for index in range(first, last):
        measured = take(index)
        with (folder / "losses").open("a") as file:
            file.write(f"{index} {measured['loss']:.12f} {measured['accuracy']:.12f}\n")
        torch.save((step.model.state_dict(), step.optimizer.state_dict()), folder / "state")


def follow(ranks: Ranks, how: str) -> None:
    step = outer_step()
    with torch.no_grad():
        for parameter in step.model.parameters():
            parameter.zero_()  # what rank 0 says is what counts
    ranks.agree("other" if how == "unequal" else "same")
    if how == "dies":
        ranks.order(), ranks.tell(), ranks.order()
        os.kill(os.getpid(), signal.SIGKILL)
    RankedStep(step, ranks).follow()


if __name__ == "__main__":
    folder, first, last, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    try:
        lead_or_follow("cpu", lambda r, _: lead(r, first, last, folder, how), lambda r, _: follow(r, how))
    except (ValueError, OSError) as error:
        sys.exit(f"innerloop: {error}")
