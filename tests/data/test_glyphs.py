from __future__ import annotations

import hashlib
import sys
import unicodedata

import pytest
import torch

from innerloop.data import load
from innerloop.data.glyphs import DRAWINGS, SCRIPTS, glyphs


@pytest.fixture(scope="module")
def splits():
    return glyphs()


def test_over_a_thousand_classes_of_twenty_drawings(splits):
    assert sum(map(len, splits)) > 1000
    assert len(splits.train) > 500
    assert len(splits.val) >= 40
    assert len(splits.test) >= 200
    for bank in splits:
        assert set(bank.sizes) == {DRAWINGS} == {20}
        assert bank.items.dtype == torch.uint8
        assert bank.shape == (1, 28, 28)
        assert not bank.turns
    assert [bank.name for bank in splits] == ["glyphs/train", "glyphs/val", "glyphs/test"]


def test_no_script_and_no_class_is_in_two_splits(splits):
    for group, bank in zip(("train", "val", "test"), splits, strict=True):
        assert set(bank.groups) == set(SCRIPTS[group])
    names = [name for bank in splits for name in bank.classes]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("alike", ["AΑА", "cCсϲⲤ", "oOοОօ0", "xXхχⵝ", "lIӀ|", "ⵀⱷ", "ⵤ𐌍", "פꓨ", "ვ3", "٤ɛƸ", "ႺG"])
def test_look_alikes_of_many_scripts_are_one_class_at_most(splits, alike):
    names = [name for bank in splits for name in bank.classes]
    assert sum(unicodedata.name(char) in names for char in alike) <= 1


def test_every_drawing_has_ink_off_the_edge_on_a_black_page(splits):
    for bank in splits:
        images = torch.stack([bank.of_class(i) for i in range(len(bank))]).squeeze(-1).flatten(0, 1)
        assert images.amax((1, 2)).min() > 150
        inked = (images > 127).float().mean((1, 2))
        assert inked.min() > 0.005
        assert inked.max() < 0.5
        edge = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1).amax(1)
        assert (edge > 127).float().mean() < 0.005
        rows = torch.arange(28.0)
        weight = images.float().sum(0)
        assert abs((weight.sum(1) * rows).sum() / weight.sum() - 13.5) < 1
        assert abs((weight.sum(0) * rows).sum() / weight.sum() - 13.5) < 1


def test_drawings_of_a_class_differ(splits):
    for bank in splits:
        images = torch.stack([bank.of_class(i) for i in range(len(bank))]).flatten(2).float()
        apart = torch.cdist(images, images) + 1e9 * torch.eye(DRAWINGS)
        assert apart.min() > 255  # at least one pixel's worth of ink


def test_a_size_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 12 pixels"):
        glyphs(size=4)


def test_the_drawings_are_the_ones_that_every_recorded_number_was_made_with(splits):
    """A golden value: the pixels as they were drawn anew on every machine, before the sheet shipped."""
    assert all(bank.items is splits.train.items for bank in splits)
    digest = hashlib.sha256(splits.train.items.numpy().tobytes()).hexdigest()
    assert digest == "54de7b7f62810dda1020346d8e61994a6f377807f9200c4b39369a0caae19912"
    assert splits.test.classes[0] == "HEBREW LETTER ALEF"
    assert [len(bank) for bank in splits] == [607, 80, 315]


def test_other_sizes_show_the_same(splits):
    small = load("glyphs", size=14).test
    assert (small.shape, small.classes) == ((1, 14, 14), splits.test.classes)
    whole = splits.test.of_class(5).float().unflatten(1, (14, 2)).unflatten(3, (14, 2)).mean((2, 4))
    assert (small.of_class(5).float() - whole).abs().mean() < 8


def test_a_damaged_sheet_is_said(tmp_path, monkeypatch):
    damaged = bytearray(sys.modules[glyphs.__module__].SHEET.read_bytes())
    damaged[100_000] ^= 1
    (tmp_path / "glyphs.png").write_bytes(damaged)
    monkeypatch.setattr(sys.modules[glyphs.__module__], "SHEET", tmp_path / "glyphs.png")
    with pytest.raises(ValueError, match=r"glyphs\.png is damaged: install innerloop again"):
        glyphs(size=13)


def test_the_first_training_batch_is_pinned(splits):
    """A golden value of the preset glyphs-5way-1shot, noted before the sheet shipped."""
    batch = splits.train.episodes(way=5, shot=1, query=5, tasks=8, count=1)[0]
    digests = [hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()[:16] for part in batch]
    assert digests == ["1c1dee8ae2c11bbb", "3f3e0b26289c17e3", "8d5c1c0aff6a7025", "e7270be11e6349a0"]
