"""The three banks of one data set: the classes to train on, to choose by and to test on."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from innerloop.data.bank import Bank


class Splits(NamedTuple):
    """Three banks with no class in common."""

    train: Bank
    val: Bank
    test: Bank

    def to(self, device: torch.device | str) -> Splits:
        """The same banks on `device`; items that they share are moved once."""
        shared = {id(bank.items): bank.items for bank in self}
        moved = {key: images.to(device) for key, images in shared.items()}
        return Splits(*(replace(bank, items=moved[id(bank.items)]) for bank in self))
