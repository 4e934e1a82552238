from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop.data.bank import Bank
from innerloop.data.contact_sheet import contact_sheet


def bank_of(pixels, classes=5, each=4, **more):
    names = [f"class {i}" for i in range(classes)]
    return Bank.stack(pixels.expand(classes * each, *pixels.shape[1:]), [each] * classes, names, white=255, **more)


def has(sheet, colour):
    return (np.asarray(sheet) == colour).all(-1).sum()


def test_images_of_three_channels_are_shown_as_they_are():
    red = torch.tensor([200, 10, 10], dtype=torch.uint8).expand(1, 40, 20, 3)
    sheet = contact_sheet(bank_of(red), rows=3, columns=2)
    assert sheet.mode == "RGB"
    assert has(sheet, (200, 10, 10)) == 3 * 2 * 40 * 20  # enlarged by a whole number: here by 1


def test_ink_on_black_is_shown_as_ink_on_paper():
    page = torch.zeros(1, 28, 28, 1, dtype=torch.uint8)
    page[:, 10:14, 10:14] = 251
    sheet = contact_sheet(bank_of(page), rows=2, columns=3)
    assert has(sheet, (4, 4, 4)) == 2 * 3 * (4 * 2) ** 2
    assert has(contact_sheet(bank_of(255 - page), rows=2, columns=3), (4, 4, 4)) == 2 * 3 * (4 * 2) ** 2


def test_margins_are_white_and_large_images_are_reduced():
    green = torch.tensor([20, 160, 20], dtype=torch.uint8).expand(1, 300, 200, 3)
    sheet = contact_sheet(bank_of(green, groups=["g"] * 5), rows=9)
    pixels = np.asarray(sheet)
    for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        assert (edge == 255).all()
    assert has(sheet, (20, 160, 20)) == 5 * 4 * 84 * 56


def test_the_seed_picks_and_long_names_leave_room():
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 8, 8, 1) * 4
    bank = Bank.stack(
        images, [2] * 30, [f"a very long name of a class {'of many words ' * 9}{i}" for i in range(30)], white=255
    )
    one, same, other = (contact_sheet(bank, rows=4, columns=2, seed=seed) for seed in (0, 0, 1))
    assert one.tobytes() == same.tobytes() != other.tobytes()
    assert one.width < 600


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet(bank_of(torch.zeros(1, 8, 8, 1, dtype=torch.uint8)), rows=0)
