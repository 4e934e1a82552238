"""What stands in a folder of images and is none: it is named, and never waited for."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from PIL import Image

from innerloop.data import folder, omniglot
from innerloop.data.cache import cache_folder, kept
from innerloop.data.files import read, walk
from innerloop.data.folder import last_changed
from innerloop.data.labelled import read_folder
from innerloop.data.pictures import picture

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs pipes and links")


def paint(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(path.name), 40, 90)).save(path)
    return path


@pytest.fixture
def pets(tmp_path) -> Path:
    for name in ("ant", "bee", "cat"):
        for i in range(3):
            paint(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def plug(path: Path) -> None:
    os.chdir(path.parent)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def pair(path: Path) -> None:
    other = path.with_name("other" + path.name)
    path.symlink_to(other.name)
    other.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pipe, "a pipe, a socket or a device"),
        (plug, "a pipe, a socket or a device"),
        (device, "a pipe, a socket or a device"),
        (itself, "Too many levels of symbolic links"),
        (pair, "Too many levels of symbolic links"),
        (nowhere, "No such file"),
    ],
)
def test_no_image_under_the_name_of_one_is_named_and_left_out(pets, monkeypatch, make, reason):
    monkeypatch.chdir(pets)
    make(pets / "bee" / "9.png")
    with pytest.raises(ValueError, match=rf"bee/9\.png \({reason}"):
        folder(pets, size=4)
    with pytest.warns(UserWarning, match=r"left out bee/9\.png"):
        bank = folder(pets, size=4, skip_bad=True)
    assert (bank.classes, bank.sizes) == (("ant", "bee", "cat"), (3, 3, 3))
    assert bank.files[3:6] == ("bee/0.png", "bee/1.png", "bee/2.png")
    assert last_changed(pets) > 0
    with pytest.raises((ValueError, FileNotFoundError), match=r"9\.png"):
        picture(pets / "bee" / "9.png", 0, 8, 3, True)


@pytest.mark.parametrize("make", [itself, pair, nowhere])
def test_a_link_that_is_no_class_is_named_and_left_out(pets, make):
    make(pets / "dog")
    with pytest.raises(ValueError, match=r"dog \(a link that leads nowhere, or in a circle\)"):
        folder(pets, size=4)
    with pytest.warns(UserWarning, match="left out"):
        assert folder(pets, size=4, skip_bad=True).classes == ("ant", "bee", "cat")
    (pets / "README.md").symlink_to("nowhere")
    with pytest.raises(ValueError, match="dog") as caught:
        folder(pets, size=4)
    assert "README" not in str(caught.value)


def test_folders_that_lie_in_themselves_are_walked_once(pets):
    (pets / "bee" / "all").symlink_to(pets)
    (pets / "bee" / "again").symlink_to(".")
    names = [file.name for file in walk(pets, 9)]
    assert names.count("ant/0.png") == 1
    assert not any("again/" in name for name in names)
    assert folder(pets, size=4).sizes == (3, 3, 3)
    assert len(read_folder(pets)[0]) == 9


def test_a_folder_that_may_not_be_listed_is_named(pets, monkeypatch):
    scandir = os.scandir

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    def refusing(path):
        if Path(path).name == "bee":
            refused(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(Path, "read_bytes", refused)
    assert [file.name for file in walk(pets, 2)][3:5] == ["bee", "cat/0.png"]
    with pytest.raises(ValueError, match=r"bee/ \(Permission denied\)"):
        folder(pets, size=4)


def test_a_file_far_too_large_is_not_read(tmp_path):
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2**31)  # takes no room
    with pytest.raises(ValueError, match=r"2\.0 GB, too large for an image"):
        read(tmp_path / "huge.png")


@pytest.mark.parametrize(
    "name", ["zwei Wörter", "日本語", "a'b\"c$d", "line\nbreak", "x" * 200, "🦉", "nö".encode("latin1")]
)
def test_any_name_will_do(tmp_path, name):
    name = os.fsdecode(name)
    root = tmp_path / name
    for label in (name, "other"):
        for i in range(3):
            paint(root / label / f"{name[:200]}{i}.png")
    bank = folder(root, size=4)
    assert sorted(bank.classes) == sorted((name, "other"))
    assert bank.name == name
    assert len(list(cache_folder().iterdir())) == 1, "it is kept"
    assert folder(root, size=4).files == bank.files
    assert bank.episodes(2, 1, 1, count=1)[0].support_x.shape == (1, 2, 3, 4, 4)
    assert [one.what for one in kept(cache_folder())] == ["2 classes, 6x4x4x3"]


def test_a_very_long_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path
    for i in range(15):
        root = root / f"{i}{'y' * 240}"
        root.mkdir()
    for label in ("a", "b"):
        for i in range(2):
            paint(root / label / f"{i}.png")
    assert folder(root, size=4).sizes == (2, 2)


def test_the_home_folder_in_every_path(pets, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    monkeypatch.setenv("INNERLOOP_CACHE", "~/kept")
    assert folder("~/pets", size=4).name == "pets"
    assert (pets.parent / "kept").is_dir()


def test_archives_that_are_pipes_are_refused(tmp_path):
    for name in ("images_background.zip", "images_evaluation.zip"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"images_background\.zip is neither a folder nor a zip file"):
        omniglot(tmp_path)


def test_reading_needs_no_right_to_write(pets):
    for path in (pets, *pets.rglob("*")):
        path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
    assert folder(pets, size=4).sizes == (3, 3, 3)
    for path in (pets, *pets.rglob("*")):
        path.chmod(0o700)
