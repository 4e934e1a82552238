"""The three banks of one data set: the classes to train on, to choose by and to test on."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from innerloop.data.episodes import ImageBank


class Splits(NamedTuple):
    """Three banks with no class in common."""

    train: ImageBank
    val: ImageBank
    test: ImageBank

    def to(self, device: torch.device | str) -> Splits:
        """The same banks on `device`; pixels that they share are moved once."""
        shared = {id(bank.images): bank.images for bank in self}
        moved = {key: images.to(device) for key, images in shared.items()}
        return Splits(*(replace(bank, images=moved[id(bank.images)]) for bank in self))
