from __future__ import annotations

import importlib
import io
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import call

from innerloop.data import load, mini_imagenet

module = importlib.import_module("innerloop.data.mini_imagenet")  # the package's `mini_imagenet` is the function

CLASSES = {"train": ("n01", "n04"), "val": ("n02",), "test": ("n03",)}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A small mini-ImageNet: 4 classes of 3 images, as folders."""
    monkeypatch.setattr(module, "CLASSES", {split: len(names) for split, names in CLASSES.items()})
    monkeypatch.setattr(module, "IMAGES", 3)
    random = np.random.default_rng(0)
    for split, names in CLASSES.items():
        for name in names:
            (tmp_path / "tiny" / split / name).mkdir(parents=True)
            for i in range(3):
                image = Image.fromarray(random.integers(0, 256, (12, 20, 3), np.uint8))
                image.save(tmp_path / "tiny" / split / name / f"{name}{i}.png")
    return tmp_path / "tiny"


def zipped(root: Path, to: Path) -> Path:
    """Zips as in the real copy: the training classes in two."""
    to.mkdir()
    for name, inside in {"train-1": "train/n01", "train-2": "train/n04", "val": "val", "test": "test"}.items():
        with zipfile.ZipFile(to / f"{name}.zip", "w") as archive:
            for path in (root / inside).rglob("*.png"):
                archive.write(path, path.relative_to(root))
    return to


def tabled(root: Path, to: Path) -> Path:
    """`images/` and a csv file for each split, as Ravi and Larochelle publish the split."""
    (to / "images").mkdir(parents=True)
    for split in CLASSES:
        rows = ["filename,label"]
        for path in sorted((root / split).rglob("*.png")):
            (to / "images" / path.name).write_bytes(path.read_bytes())
            rows.append(f"{path.name},{path.parent.name}")
        (to / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return to


def same(bank, other) -> bool:
    return (bank.name, bank.classes, bank.sizes) == (other.name, other.classes, other.sizes) and torch.equal(
        bank.items, other.items
    )


def test_every_layout_holds_the_same(tiny, tmp_path):
    splits = load("mini-imagenet", source=tiny)
    assert [bank.classes for bank in splits] == [("n01", "n04"), ("n02",), ("n03",)]
    assert [bank.name for bank in splits] == ["mini-imagenet/train", "mini-imagenet/val", "mini-imagenet/test"]
    assert splits.val.groups == ("val",)
    assert splits.train.items.shape == (12, 84, 84, 3)
    for source in (zipped(tiny, tmp_path / "zips"), tabled(tiny, tmp_path / "tables")):
        assert all(same(*pair) for pair in zip(mini_imagenet(source), splits, strict=True))


def test_images_are_squeezed_with_lanczos(tiny):
    bank = mini_imagenet(tiny, size=10).test
    with Image.open(tiny / "test" / "n03" / "n031.png") as image:
        expected = np.asarray(image.resize((10, 10), Image.Resampling.LANCZOS))
    assert (bank.of_class(0)[1].numpy() == expected).all()


def test_a_changed_source_is_decoded_anew(tiny, tmp_path):
    zips = zipped(tiny, tmp_path / "zips")
    before = mini_imagenet(zips).val
    with zipfile.ZipFile(zips / "val.zip", "w") as archive:
        for i in range(3):
            archive.write(tiny / "test" / "n03" / f"n03{i}.png", f"val/n02/n02{i}.png")
    after = mini_imagenet(zips)
    assert not torch.equal(after.val.of_class(0), before.of_class(0))
    assert torch.equal(after.val.of_class(0), after.test.of_class(0))


def test_without_a_source_it_says_what_to_do(tiny, monkeypatch):
    monkeypatch.delenv("INNERLOOP_MINI_IMAGENET", raising=False)
    with pytest.raises(FileNotFoundError, match=r"non-commercial .*\(--source\) or in INNERLOOP_MINI_IMAGENET"):
        mini_imagenet()
    monkeypatch.setenv("INNERLOOP_MINI_IMAGENET", str(tiny))
    assert len(mini_imagenet().train) == 2


def test_a_folder_with_something_else_is_described(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        mini_imagenet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="which holds nothing"):
        mini_imagenet(tmp_path)
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds mini-imagenet-cache-train\.pkl\. .*pickle can run code"):
        mini_imagenet(tmp_path)


def test_only_the_whole_of_it_will_do(tiny):
    (tiny / "train" / "n01" / "n010.png").unlink()
    with pytest.raises(ValueError, match=r"the classes train/n01 \(2\) with another number of images"):
        mini_imagenet(tiny)
    for path in (tiny / "train" / "n01").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"has {'train': 1, 'val': 1, 'test': 1} classes\. Complete it"):
        mini_imagenet(tiny)


def test_damaged_files_are_named(tiny, tmp_path):
    zips = zipped(tiny, tmp_path / "zips")
    whole = (zips / "train-2.zip").read_bytes()
    (zips / "train-2.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train-2\.zip is cut off"):
        mini_imagenet(zips)
    at = whole.index(b"IDAT") + 40
    (zips / "train-2.zip").write_bytes(whole[:at] + b"damage" + whole[at + 6 :])
    with pytest.raises(ValueError, match=r"n04/n04\d\.png \(Bad CRC-32"):
        mini_imagenet(zips)
    (tiny / "test" / "n03" / "n032.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"n03/n032\.png \(not an image, or .*\)"):
        mini_imagenet(tiny)


def test_tables_are_checked(tiny, tmp_path):
    tables = tabled(tiny, tmp_path / "tables")
    (tables / "images" / "n020.png").unlink()
    with pytest.raises(ValueError, match=r"n02/n020\.png \(No such file"):
        mini_imagenet(tables)
    (tables / "val.csv").write_text("n020.png,n02\n")
    with pytest.raises(ValueError, match="expected filename and label"):
        mini_imagenet(tables)


def test_the_hub(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[hub\]'"):
        mini_imagenet("hf://someone/mini")

    def snapshot_download(repository: str, *, repo_type: str) -> str:
        assert repo_type == "dataset"
        if repository != "someone/mini":
            raise OSError("no such repository")
        return str(tiny)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert same(mini_imagenet("hf://someone/mini").test, mini_imagenet(tiny).test)
    checked = call("data", "prepare", "mini-imagenet", "--source", "hf://someone/mini", "--size", 10)
    assert (checked.code, checked.out.count("3x10x10")) == (0, 3)
    with pytest.raises(FileNotFoundError, match=r"'no/mini' could not be downloaded \(no such repository\)"):
        mini_imagenet("hf://no/mini")


def test_real_images_come_out_as_pillow_reads_them(shared, tiny, tmp_path):
    zips = zipped(tiny, tmp_path / "zips")
    with zipfile.ZipFile(shared / "mini-imagenet" / "val.zip") as real:
        names = real.namelist()[:3]
        data = [real.read(name) for name in names]
    with zipfile.ZipFile(zips / "val.zip", "w") as archive:
        for name, image in zip(names, data, strict=True):
            archive.writestr(name, image)
    bank = mini_imagenet(zips).val
    assert bank.classes == (names[0].split("/")[1],)
    for found, image in zip(bank.of_class(0), data, strict=True):
        with Image.open(io.BytesIO(image)) as expected:
            assert expected.size == (84, 84)
            assert (found.numpy() == np.asarray(expected.convert("RGB"))).all()
