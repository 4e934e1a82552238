"""The three banks of one data set: the classes to train on, to choose by and to test on."""

from __future__ import annotations

from typing import NamedTuple

from innerloop.episodes import ImageBank


class Splits(NamedTuple):
    """Three banks with no class in common."""

    train: ImageBank
    val: ImageBank
    test: ImageBank
