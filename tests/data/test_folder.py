from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from innerloop.data import folder, folder_splits, load
from innerloop.data.cache import cache_folder
from innerloop.data.decode import pixels


def paint(path: Path, colour=(200, 40, 90), size=(20, 16), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def pets(root: Path, classes=("ant", "bee", "cat", "dog", "eel"), images=3) -> Path:
    for i, name in enumerate(classes):
        for j in range(images):
            paint(root / name / f"{j}.png", (10 * i + 100, j, 7))
    return root


def same(bank, other) -> bool:
    return bank.classes == other.classes and torch.equal(bank.items, other.items)


def test_classes_are_the_sorted_sub_folders(tmp_path):
    root = pets(tmp_path / "pets", ("dog", "ant"))
    paint(root / "bee" / "b.webp", lossless=True)
    paint(root / "bee" / "a.jpg")
    (root / "bee" / "notes.txt").write_text("not an image")
    (root / "bee" / ".DS_Store").write_text("hidden")
    (root / ".git").mkdir()
    (root / "README.md").write_text("pets")
    bank = folder(root, size=8)
    assert (bank.name, bank.classes, bank.groups) == ("pets", ("ant", "bee", "dog"), ("ant", "bee", "dog"))
    assert bank.sizes == (3, 2, 3)
    assert bank.items.shape == (8, 8, 8, 3)
    assert bank.of_class(0)[:, 0, 0].tolist() == [[110, 0, 7], [110, 1, 7], [110, 2, 7]]
    assert bank.of_class(1)[1, 0, 0].tolist() == [200, 40, 90]


def test_the_short_side_is_resized_and_the_middle_kept(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(wide).save(path)
    assert (pixels(path.read_bytes(), 10) == 255).all()
    assert pixels(path.read_bytes(), 30, crop=False)[0, 0].tolist() == [0, 0, 0]


def test_a_large_jpeg_is_read_small_with_the_same_outcome(tmp_path):
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    image = Image.fromarray(np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128 + 0 * ramp[None]), -1))
    image.save(tmp_path / "big.jpg", quality=95)
    image.save(tmp_path / "big.png")
    jpg, png = (pixels((tmp_path / f"big.{kind}").read_bytes(), 20).astype(int) for kind in ("jpg", "png"))
    assert abs(jpg - png).max() <= 3


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_exif_turns_an_image_upright(tmp_path, kind):
    shape = np.zeros((16, 16, 3), np.uint8)
    shape[:8, :8], shape[:8, 8:] = 255, 128  # unlike itself in any other orientation
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(shape).save(tmp_path / f"a.{kind}", exif=exif)
        with Image.open(tmp_path / f"a.{kind}") as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        found = pixels((tmp_path / f"a.{kind}").read_bytes(), 16)
        assert abs(found.astype(int) - expected.astype(int)).max() <= 2
        if orientation == 6:  # the file's top left corner is the scene's top right one
            assert found[2, 13].min() > 240


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_damaged_exif_does_no_harm(tmp_path, kind):
    root = pets(tmp_path / "pets")
    for i, exif in enumerate(
        (b"MM\0*\0\0\0\xff\xff\xff", b"nonsense", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\0\0\0")
    ):
        paint(root / "ant" / f"exif{i}.{kind}", exif=b"Exif\0\0" + exif)
    assert folder(root, size=4).sizes[0] == 6


@pytest.mark.parametrize(
    ("mode", "colour", "options", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), {}, [255, 255, 255]),
        ("RGBA", (100, 0, 0, 255), {}, [100, 0, 0]),
        ("LA", (0, 0), {}, [255, 255, 255]),
        ("RGB", (9, 8, 7), {"transparency": (9, 8, 7)}, [255, 255, 255]),
        ("L", 9, {"transparency": 9}, [255, 255, 255]),
        ("L", 9, {}, [9, 9, 9]),
        ("1", 1, {}, [255, 255, 255]),
        ("I;16", 65535, {}, [255, 255, 255]),
        ("I;16", 257 * 77, {}, [77, 77, 77]),
        ("I;16", 200, {}, [1, 1, 1]),
    ],
)
def test_every_mode_becomes_opaque_8_bit(tmp_path, mode, colour, options, expected):
    data = paint(tmp_path / "a.png", colour, mode=mode, **options).read_bytes()
    assert pixels(data, 4)[1, 1].tolist() == expected
    if expected[0] == expected[2]:
        assert pixels(data, 4, channels=1)[1, 1].tolist() == expected[:1]


@pytest.mark.parametrize(("grey", "expected"), [((0, 128, 255), [0, 128, 255]), ((0, 257 * 128, 65535), [0, 128, 255])])
def test_32_bits_hold_8_or_16(tmp_path, grey, expected):
    Image.fromarray(np.tile(np.array(grey, np.int32), (3, 1))).save(tmp_path / "a.tif")
    assert pixels((tmp_path / "a.tif").read_bytes(), 3, channels=1)[0, :, 0].tolist() == expected


def test_palettes_and_print_colours(tmp_path):
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 250, 120, 30])
    image.save(tmp_path / "a.gif")
    image.save(tmp_path / "a.png", transparency=1)
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    first = {name: pixels((tmp_path / name).read_bytes(), 4)[0, 0].tolist() for name in os.listdir(tmp_path)}
    assert first["a.gif"] == [250, 120, 30]
    assert first["a.png"] == [255, 255, 255]
    assert first["a.tif"] == [255, 0, 0]


def test_one_channel_only_when_no_image_has_colour(tmp_path):
    for name in ("ant", "bee"):
        paint(tmp_path / "grey" / name / "0.png", 30, mode="L")
        paint(tmp_path / "grey" / name / "1.png", (30, 30, 30))
    assert folder(tmp_path / "grey", size=4).items.shape[-1] == 1
    assert folder(tmp_path / "grey", size=4, grey=False).items.shape[-1] == 3
    paint(tmp_path / "grey" / "bee" / "2.png", (30, 31, 30))
    assert folder(tmp_path / "grey", size=4).items.shape[-1] == 3
    assert folder(tmp_path / "grey", size=4, grey=True).items.shape[-1] == 1


def test_the_second_start_decodes_nothing_and_a_change_is_seen(tmp_path, monkeypatch):
    root = pets(tmp_path / "pets")
    bank = folder(root, size=4)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", lambda *_: pytest.fail("decoded again"))
        assert same(folder(root, size=4), bank)
    assert folder(root, size=5).shape == (3, 5, 5)
    paint(root / "ant" / "0.png", (1, 2, 3), (30, 30))
    assert folder(root, size=4).items[0, 0, 0].tolist() == [1, 2, 3]
    (root / "fox").mkdir()
    with pytest.raises(ValueError, match="fox"):
        folder(root, size=4)


def test_what_a_killed_process_left_in_the_cache_goes(tmp_path):
    root = pets(tmp_path / "pets")
    folder(root, size=4)
    old, fresh = (cache_folder() / f".folder-pets-0123.safetensors.{pid}.part" for pid in (1, 2))
    for path in (old, fresh):
        path.write_bytes(b"half a bank")
    os.utime(old, (0, time.time() - 4000))
    folder(root, size=4)
    assert (old.exists(), fresh.exists()) == (False, True), "another process may still be writing a fresh one"


def test_links_are_followed(tmp_path):
    root = pets(tmp_path / "pets")
    (tmp_path / "linked").mkdir()
    for name in ("ant", "bee"):
        (tmp_path / "linked" / name).symlink_to(root / name)
    assert folder(tmp_path / "linked", size=4).sizes == (3, 3)
    (tmp_path / "linked" / "bee" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"bee/gone\.png \(No such file"):
        folder(tmp_path / "linked", size=4)


def damaged(tmp_path: Path) -> Path:
    root = pets(tmp_path / "pets")
    whole = paint(root / "ant" / "big.jpg", size=(300, 300)).read_bytes()
    (root / "ant" / "big.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "bee" / "text.png").write_text("not an image at all")
    (root / "empty").mkdir()
    paint(root / "lone" / "0.png")
    Image.new("F", (4, 4), 0.5).save(root / "cat" / "float.tif")
    return root


def test_everything_bad_is_named_in_one_message(tmp_path):
    with pytest.raises(ValueError, match="cannot be used as it is") as caught:
        folder(damaged(tmp_path), size=4)
    message = str(caught.value)
    for part in (
        "ant/big.jpg (image file is truncated",
        "bee/text.png (not an image, or of a format that Pillow cannot read here)",
        "cat/float.tif (32-bit pixels",
        "empty (no images directly in it)",
        "lone (1 image, fewer than 2)",
        "--skip-bad",
    ):
        assert part in message
    assert "\n" not in message


def test_skip_bad_leaves_them_out_with_one_warning(tmp_path):
    root = damaged(tmp_path)
    with pytest.warns(UserWarning, match=r"left out ant/big\.jpg .* lone \(1 image") as caught:
        bank = folder(root, size=4, skip_bad=True)
    assert len(caught) == 1
    for name in ("empty", "lone"):
        for file in (root / name).iterdir():
            file.unlink()
        (root / name).rmdir()
    for file in ("ant/big.jpg", "bee/text.png", "cat/float.tif"):
        (root / file).unlink()
    assert same(bank, folder(root, size=4))


def test_long_lists_are_cut(tmp_path):
    root = pets(tmp_path / "pets", [f"class{i:02}" for i in range(14)], images=1)
    with pytest.raises(ValueError, match=r"class09 \(1 image, fewer than 2\) and 4 more\.") as caught:
        folder(root, size=4)
    assert "class10" not in str(caught.value)
    with pytest.raises(ValueError, match="class00"), warnings.catch_warnings():
        folder(root, size=4, skip_bad=True)  # nothing would remain


def test_large_photographs_are_welcome_and_bombs_are_named(tmp_path, monkeypatch):
    root = pets(tmp_path / "pets")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 320 pixels warn, more than 400 are an error
    assert folder(root, size=4).sizes == (3,) * 5
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"ant/0\.png \(Image size \(320 pixels\)"):
        folder(root, size=5)


def test_wrong_paths_say_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; expected a folder with one sub-folder"):
        folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        folder(paint(tmp_path / "image.png"))
    with pytest.raises(ValueError, match="lie directly in it"):
        folder(tmp_path)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ValueError, match="has no sub-folders"):
        folder(tmp_path / "hollow")


def test_a_seeded_split_by_class(tmp_path):
    root = pets(tmp_path / "pets", "abcdefghij")
    splits = folder_splits(root, size=4, fractions=(0.6, 0.2), seed=1)
    assert [len(bank) for bank in splits] == [6, 2, 2]
    assert [bank.name for bank in splits] == ["pets/train", "pets/val", "pets/test"]
    assert sorted(name for bank in splits for name in bank.classes) == list("abcdefghij")
    assert folder_splits(root, size=4, fractions=(0.6, 0.2), seed=1).test.classes == splits.test.classes
    assert any(folder_splits(root, size=4, seed=seed).test.classes != splits.test.classes for seed in range(2, 6))
    with pytest.raises(ValueError, match="empty"):
        folder_splits(pets(tmp_path / "few", "ab"), size=4)


@pytest.mark.parametrize(
    ("classes", "way", "sizes"),
    [
        (3, 1, (1, 1, 1)),
        (12, 2, (8, 2, 2)),  # as the fractions have it, as long as that is enough
        (12, 3, (6, 3, 3)),
        (12, 5, (8, 2, 2)),  # and where there cannot be enough
        (15, 5, (5, 5, 5)),
        (20, 5, (10, 5, 5)),
        (25, 5, (15, 5, 5)),
        (32, 5, (20, 6, 6)),
    ],
)
def test_each_part_has_enough_classes_where_there_are_enough(tmp_path, classes, way, sizes):
    root = pets(tmp_path / "pets", [f"class{i:02}" for i in range(classes)], images=2)
    splits = folder_splits(root, size=4, way=way)
    assert tuple(map(len, splits)) == sizes
    tests = [set(folder_splits(root, size=4, way=other).test.classes) for other in range(1, classes // 3 + 1)]
    assert not set(splits.train.classes) & set.union(*tests), "no way tests on what another trains on"


def test_train_val_and_test_folders_are_the_split(tmp_path):
    root = tmp_path / "pets"
    for part, classes in {"train": "abc", "val": "d", "test": "ef"}.items():
        pets(root / part, classes)
    splits = load(root, size=4)
    assert [bank.classes for bank in splits] == [("a", "b", "c"), ("d",), ("e", "f")]
    assert splits.test.groups == ("test", "test")
    pets(root / "test", "b")
    with pytest.raises(ValueError, match=r"several sides of its split: b\. "):
        load(root, size=4)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_val_has_other_names(tmp_path, name):
    for part in ("train", name, "test"):
        pets(tmp_path / "pets" / part, (f"a {part} class",))
    splits = load(tmp_path / "pets", size=4)
    assert splits.val.classes == (f"a {name} class",)
    assert (splits.val.name, splits.val.groups) == ("pets/val", ("val",))


@pytest.mark.parametrize("parts", [("test", "train"), ("Test", "Train", "valid"), ("train", "val")])
def test_a_split_with_parts_missing_is_not_taken_for_classes(tmp_path, parts):
    for part in parts:
        pets(tmp_path / "pets" / part)
    for read in (folder, load):
        with pytest.raises(
            ValueError, match=f"has {' and '.join(parts)}, which look like .* train/, val/ and test/, all"
        ):
            read(tmp_path / "pets", size=4)


def test_classes_may_be_called_like_parts(tmp_path):
    root = pets(tmp_path / "pets", ("bus", "test", "train"))
    (root / "train" / "more").mkdir()
    assert folder(root, size=4).classes == ("bus", "test", "train")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_split(tmp_path, kind):
    root, file = pets(tmp_path / "pets"), tmp_path / f"split.{kind}"

    def write(**parts):
        rows = [f"{name},{part}" for part, names in parts.items() for name in names]
        file.write_text(json.dumps(parts) if kind == "json" else "\n".join(["class,split", *rows]))

    write(train=["eel", "ant"], val=["bee"], test=["cat"])
    splits = load(root, size=4, split=file)
    assert [bank.classes for bank in splits] == [("ant", "eel"), ("bee",), ("cat",)]
    write(train=["ant", "yak"], val=["bee"], test=["cat"])
    with pytest.raises(ValueError, match=r"classes that pets lacks .*: yak"):
        load(root, size=4, split=file)
    write(train=["ant"], val=["ant"], test=["cat"])
    with pytest.raises(ValueError, match="twice: ant"):
        load(root, size=4, split=file)
    write(train=["ant"], test=["cat"])
    with pytest.raises(ValueError, match="names the parts test, train; expected csv"):
        load(root, size=4, split=file)


def test_splits_that_are_none(tmp_path):
    root = pets(tmp_path / "pets")
    with pytest.raises(FileNotFoundError, match="no split file"):
        load(root, split=tmp_path / "none.csv")
    for name, text, message in [
        ("a.json", "{", "not JSON"),
        ("b.json", '{"train": "ant"}', "no lists"),
        ("c.json", '{"train": ["ant"], "val": ["bee"], "test": []}', "the test part of pets is empty"),
        ("d.csv", "ant,train\n", "the columns ant, train"),
        ("e.csv", "", "the columns none"),
        ("f.csv", "class,split\nant\n", r"f\.csv has too few columns in row 2; expected csv"),
        ("g.csv", "class,split\nänt,train\n", r"g\.csv is no text in UTF-8 .*: save it as UTF-8"),
        ("h.json", '{"train": ["ä"]}', r"h\.json is no text in UTF-8"),
    ]:
        (tmp_path / name).write_text(text, encoding="latin1")
        with pytest.raises(ValueError, match=message):
            load(root, size=4, split=tmp_path / name)


def test_load_names_what_there_is(tmp_path):
    with pytest.raises(ValueError, match=r"'omniglott'.*glyphs, omniglot, mini-imagenet"):
        load("omniglott")
    with pytest.raises(ValueError, match="takes no source, only fractions"):
        load(tmp_path, source=tmp_path)
