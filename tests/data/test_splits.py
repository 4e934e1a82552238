from __future__ import annotations

import torch

from innerloop.data import Splits
from innerloop.data.bank import Bank


def test_pixels_that_parts_share_are_moved_once():
    bank = Bank.stack(torch.zeros(6, 4, 4, 1, dtype=torch.uint8), [1] * 6, list("abcdef"))
    splits = Splits(*bank.split(0.4, 0.2))
    moved = splits.to("meta")
    assert moved.train.items.is_meta
    assert moved.train.items is moved.val.items is moved.test.items
    assert moved.test.classes == splits.test.classes
