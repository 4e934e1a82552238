from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pytest
import torch

from innerloop.data import pen
from innerloop.data.glyphs import DRAWINGS, SCRIPTS, _characters, _face, _ink, glyphs


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(autouse=True)
def one_cache(cache, own_cache, monkeypatch):  # noqa: ARG001  (own_cache first, so that this one holds)
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))


@pytest.fixture(scope="module")
def splits(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(cache))
        return glyphs()


def path_fields(chars):
    """Paths in DejaVu Sans, and how far each pixel is from them."""
    font, _ = _face("DejaVuSans")
    _, paths = pen.fit(np.arange(len(chars)), pen.thin(np.stack([_ink(font, char) for char in chars])))
    assert len(paths) == len(chars)
    return torch.from_numpy(paths), pen.distance(torch.from_numpy(paths))


def farthest(chars):
    """For each two characters, how far the farthest point of either path is from the other path (8 at most)."""
    paths, fields = path_fields(chars)
    one_way = torch.stack([fields[:, path].amax(1) for path in paths])
    return torch.maximum(one_way, one_way.T)


def test_over_a_thousand_classes_of_twenty_drawings(splits):
    assert sum(map(len, splits)) > 1000
    assert len(splits.train) > 500
    assert len(splits.val) >= 40
    assert len(splits.test) >= 200
    for bank in splits:
        assert set(bank.sizes) == {DRAWINGS} == {20}
        assert bank.images.dtype == torch.uint8
        assert bank.shape == (1, 28, 28)
        assert not bank.turns
    assert [bank.name for bank in splits] == ["glyphs/train", "glyphs/val", "glyphs/test"]


def test_no_script_and_no_class_is_in_two_splits(splits):
    for group, bank in zip(("train", "val", "test"), splits, strict=True):
        assert set(bank.groups) == set(SCRIPTS[group])
    names = [name for bank in splits for name in bank.classes]
    assert len(set(names)) == len(names)


def test_no_two_classes_look_alike(splits):
    chars = [unicodedata.lookup(name) for bank in splits for name in bank.classes]
    between = farthest(chars).fill_diagonal_(torch.inf)
    assert between.min() > 6, [chars[i] for i in divmod(int(between.argmin()), len(chars))]
    part = torch.tensor([i for i, bank in enumerate(splits) for _ in range(len(bank))])
    across = between.where(part != part[:, None], torch.inf)
    assert across.min() > 7, [chars[i] for i in divmod(int(across.argmin()), len(chars))]


@pytest.mark.parametrize("alike", ["AΑА", "cCсϲⲤ", "oOοОօ0", "xXхχⵝ", "lIӀ|", "ⵀⱷ", "ⵤ𐌍", "פꓨ", "ვ3", "٤ɛƸ", "ႺG"])
def test_look_alikes_of_many_scripts_are_one_class_at_most(splits, alike):
    names = [name for bank in splits for name in bank.classes]
    assert sum(unicodedata.name(char) in names for char in alike) <= 1


@pytest.mark.parametrize("pair", ["bd", "ᐁᐃ", "ΨΩ", "жш", "אש", "جخ"])
def test_characters_that_differ_stay_apart(pair):
    assert farthest(pair)[0, 1] > 6


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


def test_a_second_start_opens_the_cache(splits, cache, monkeypatch):
    def never(_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(sys.modules[glyphs.__module__], "_generate", never)
    again = glyphs()
    assert [file.name for file in cache.iterdir()] == ["glyphs-v2-28.safetensors"]
    for before, after in zip(splits, again, strict=True):
        assert before.classes == after.classes
        assert torch.equal(before.of_class(3), after.of_class(3))


def test_the_same_seed_draws_the_same(splits):
    def drawn(seed):
        _, fields = path_fields("אბՊж")
        return pen.draw(fields.repeat(5, 1, 1), 28, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert splits.test.classes[0] == "HEBREW LETTER ALEF"


def test_a_size_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 12 pixels"):
        glyphs(size=4)


def test_accents_marks_and_missing_characters_are_left_out():
    chars = "".join(char for char, _ in _characters(_face("DejaVuSans")[1]))
    assert not set("éÅﬁ²ـʰ") & set(chars)
    assert {"A", "Ж", "א", "ᐁ", "7"} <= set(chars)
    assert len(set(chars)) == len(chars)


def test_thin_leaves_lines_one_pixel_wide():
    ink = np.zeros((2, 64, 64), bool)
    ink[0, 10:50, 20:27] = True  # a bar 7 wide
    ink[1, 8:56, 8:56] = True
    ink[1, 16:48, 16:48] = False  # a ring 8 wide
    bar, ring = pen.thin(ink)
    assert (bar.sum(1) <= 1).all()
    assert bar.sum() > 30
    assert not (bar & ~ink[0]).any()
    assert ring[:, 32].sum() == ring[32].sum() == 2


def test_distance_is_that_to_the_nearest_point():
    paths = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) < 0.01
    field = pen.distance(paths)
    every = torch.cartesian_prod(torch.arange(64.0), torch.arange(64.0))
    for path, got in zip(paths, field, strict=True):
        want = torch.cdist(every, path.nonzero().float()).amin(1).clamp(max=8).view(64, 64)
        torch.testing.assert_close(got, want)


def test_fit_forgives_size_and_half_of_the_shape():
    paths = np.zeros((4, 64, 64), bool)
    for path, (high, wide) in zip(paths, [(60, 60), (30, 30), (60, 15), (5, 5)], strict=True):
        path[2 : 2 + high, [2, 1 + wide]] = True
        path[[2, 1 + high], 2 : 2 + wide] = True
    owner, fitted = pen.fit(np.arange(4), paths)
    assert owner.tolist() == [0, 1, 2]  # the last is hardly more than a point
    sizes = [(np.ptp(np.flatnonzero(path.any(1))) + 1, np.ptp(np.flatnonzero(path.any(0))) + 1) for path in fitted]
    for got, want in zip(sizes, [(48, 48), (48, 48), (48, 24)], strict=True):
        assert np.abs(np.subtract(got, want)).max() <= 2
