from __future__ import annotations

import hashlib
import importlib
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from innerloop.data import load, omniglot
from innerloop.data.cache import cache_folder

module = importlib.import_module("innerloop.data.omniglot")  # the package's `omniglot` is the function

ALPHABETS = {"images_background": "ABCDEF", "images_evaluation": "YZ"}  # of two characters each


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A small Omniglot: 8 alphabets of 2 characters with 3 drawings each, extracted."""
    monkeypatch.setattr(module, "CHARACTERS", {"background": 12, "evaluation": 4})
    monkeypatch.setattr(module, "DRAWINGS", 3)
    monkeypatch.setattr(module, "REFERENCE", (10, 2))
    root = tmp_path / "tiny"
    for part, alphabets in ALPHABETS.items():
        for alphabet in alphabets:
            for character in (1, 2):
                folder = root / part / alphabet / f"character{character:02}"
                folder.mkdir(parents=True)
                for drawing in (1, 2, 3):
                    image = Image.new("1", (105, 105), 1)  # white paper
                    ImageDraw.Draw(image).rectangle((0, 0, 50, 10 * drawing), fill=0)  # black ink
                    image.save(folder / f"{ord(alphabet):04}_{drawing:02}.png")
    return root


def zipped(root: Path, to: Path) -> Path:
    to.mkdir()
    for part in ALPHABETS:
        with zipfile.ZipFile(to / f"{part}.zip", "w") as archive:
            archive.writestr(f"{part}/", "")
            archive.writestr(f"__MACOSX/{part}/A/character01/._0065_01.png", "a Mac's leftovers")
            for path in (root / part).rglob("*.png"):
                archive.write(path, path.relative_to(root))
    return to


def same(bank, other) -> bool:
    return (bank.name, bank.classes, bank.groups) == (other.name, other.classes, other.groups) and torch.equal(
        bank.items, other.items
    )


def test_folders_and_zips_hold_the_same(tiny, tmp_path):
    from_folder = load("omniglot", source=tiny)
    from_zips = load("omniglot", source=zipped(tiny, tmp_path / "zips"))
    assert all(same(*pair) for pair in zip(from_folder, from_zips, strict=True))
    assert [len(bank) for bank in from_folder] == [10, 2, 4]
    assert [bank.name for bank in from_folder] == ["omniglot/train", "omniglot/val", "omniglot/test"]
    assert from_folder.train.turns


def test_ink_is_255_on_0(tiny):
    bank = omniglot(tiny).train
    assert bank.items.shape == (48, 28, 28, 1)
    first, last = bank.of_class(0)[0, :, :, 0], bank.of_class(0)[2, :, :, 0]
    assert min(first[0, 0], last[5, 0]) > 240  # LANCZOS rings a little beside edges
    assert max(first[20, 20], first[5, 0]) < 15
    assert omniglot(tiny, size=14).test.shape == (1, 14, 14)


def test_the_official_split_goes_by_alphabet(tiny):
    splits = omniglot(tiny, split="official")
    assert [len(bank) for bank in splits] == [10, 2, 4]
    assert [bank.name for bank in splits] == [f"omniglot-official/{part}" for part in ("train", "val", "test")]
    assert set(splits.test.groups) == {"Y", "Z"}
    assert splits.test.classes[0] == "evaluation/Y/character01"
    assert not set(splits.train.groups) & set(splits.val.groups)
    with pytest.raises(ValueError, match="'reference' and 'official', got 'lake'"):
        omniglot(tiny, split="lake")  # pyright: ignore[reportArgumentType]


def test_a_part_that_is_missing_or_incomplete_is_named(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images_background or images_background\.zip in "):
        omniglot(tiny / "images_background")
    with pytest.raises(FileNotFoundError, match=r"images_background\.zip is a file; expected a folder that holds both"):
        omniglot(zipped(tiny, tmp_path / "zips") / "images_background.zip")
    next((tiny / "images_evaluation" / "Z" / "character02").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"other numbers of drawings of evaluation/Z/character02 \(2\)"):
        omniglot(tiny)
    for path in (tiny / "images_evaluation" / "Z" / "character02").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"have {'background': 12, 'evaluation': 3}"):
        omniglot(tiny)


def test_damaged_files_are_named(tiny, tmp_path):
    zips = zipped(tiny, tmp_path / "zips")
    whole = (zips / "images_evaluation.zip").read_bytes()
    (zips / "images_evaluation.zip").write_bytes(whole[:-200])
    with pytest.raises(ValueError, match=r"images_evaluation\.zip is cut off or no zip"):
        omniglot(zips)
    (tiny / "images_background" / "B" / "character01" / "0066_02.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"background/B/character01/0066_02\.png \(not an image, or .*\)\. Copy or download"
    ):
        omniglot(tiny)


@pytest.fixture
def server(tiny, tmp_path, monkeypatch):
    """The official place, on this machine, with the tiny archives."""
    site = zipped(tiny, tmp_path / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=site)) as http:
        threading.Thread(target=partial(http.serve_forever, poll_interval=0.02), daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{http.server_port}")
        md5 = {part: hashlib.md5((site / f"{part}.zip").read_bytes()).hexdigest() for part in ALPHABETS}
        monkeypatch.setattr(module, "MD5", md5)
        yield site
        http.shutdown()


@pytest.mark.usefixtures("server")
def test_the_archives_are_downloaded_once(tiny, monkeypatch):
    splits = load("omniglot")
    assert all(same(*pair) for pair in zip(splits, omniglot(tiny), strict=True))
    assert {path.name for path in (cache_folder() / "omniglot").iterdir()} == {f"{part}.zip" for part in ALPHABETS}
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9")
    assert same(omniglot().train, splits.train)
    assert omniglot(size=14).test.shape == (1, 14, 14)  # decoded anew from the kept archives


def test_a_failed_download_says_what_to_do(server, monkeypatch):
    (server / "images_background.zip").write_bytes(b"something else")
    with pytest.raises(FileNotFoundError, match=r"images_background\.zip could not .*hash.*folder as the source"):
        omniglot()
    (server / "images_background.zip").unlink()
    with pytest.raises(FileNotFoundError, match="404"):
        omniglot()
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        omniglot()
    assert not list((cache_folder() / "omniglot").glob("*.zip"))


def test_the_official_checksums_are_pinned():
    assert module.URL == "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
    assert module.MD5 == {
        "images_background": "68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    }


@pytest.mark.slow
def test_the_real_omniglot(shared):
    splits = omniglot(shared / "omniglot")
    start = time.perf_counter()
    official = omniglot(shared / "omniglot", split="official")
    assert time.perf_counter() - start < 2  # decoded once for both
    assert [len(bank) for bank in splits] == [1100, 100, 423]
    assert [len(bank) for bank in official] == [964 - len(official.val), len(official.val), 659]
    assert [len(set(bank.groups)) for bank in official] == [25, 5, 20]
    for split in (splits, official):
        names = [name for bank in split for name in bank.classes]
        assert len(set(names)) == len(names) == 1623
        assert {size for bank in split for size in bank.sizes} == {20}
    images = splits.train.items
    assert images.shape == (1623 * 20, 28, 28, 1)
    paper, ink = (images == 0).float().mean(), (images > 200).float().mean()
    assert paper > 0.6
    assert 0.01 < ink < 0.15
