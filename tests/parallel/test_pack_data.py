from __future__ import annotations

import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from innerloop.data.mini_imagenet import mini_imagenet
from tools.pack_data import pack

CLASSES = {"train": 3, "val": 2, "test": 2}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """mini-ImageNet with few classes of few images."""
    room = sys.modules["innerloop.data.mini_imagenet"]
    monkeypatch.setattr(room, "CLASSES", CLASSES)
    monkeypatch.setattr("tools.pack_data.CLASSES", CLASSES)
    monkeypatch.setattr(room, "IMAGES", 4)
    noise = np.random.default_rng(0)
    root = tmp_path / "source"
    root.mkdir()
    for split, count in CLASSES.items():
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for label in range(count):
                for i in range(4):
                    image = Image.fromarray(noise.integers(0, 256, (8, 8, 3)).astype(np.uint8))
                    with archive.open(f"{split}/{split}{label}/{i}.png", "w") as file:
                        image.save(file, "png")
    return root


@pytest.mark.parametrize("how", ["files", "pixels"])
def test_what_is_packed_is_read_as_it_was_and_no_piece_is_larger_than_asked(how, source, tmp_path):
    out, piece = tmp_path / "packed", 3000
    paths = pack(source, out, how, piece, size=8)
    assert len(paths) > 3
    assert all(path.stat().st_size <= piece for path in paths)
    for ours, theirs in zip(mini_imagenet(out, size=8), mini_imagenet(source, size=8), strict=True):
        assert ours.classes == theirs.classes
        assert ours.items.equal(theirs.items)


def test_what_cannot_be_packed_is_said(source, tmp_path):
    with pytest.raises(ValueError, match=r"alone has .* above a piece of 100: give a larger --piece"):
        pack(source, tmp_path / "packed", "files", 100)
    with pytest.raises(FileNotFoundError, match=r"no train\*.zip in"):
        pack(tmp_path, tmp_path / "packed", "files", 10**6)
