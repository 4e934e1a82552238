"""Which images show the same, by the names of their files or by a table."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from innerloop.data import folder, load
from innerloop.data.subjects import groups_of, sequences

FILES = ["a/p1_0.png", "a/p1_1.png", "a/p2_0.png", "b/p1_0.png", "b/p3_0.png"]


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("{group}_*", ["p1", "p1", "p2", "p1", "p3"]),
        ("p{group}_*.png", ["1", "1", "2", "1", "3"]),
        ("{group}_0.png", None),
        ("*_{group}.png", ["0", "1", "0", "0", "0"]),
        ("*/{group}_*", ["p1", "p1", "p2", "p1", "p3"]),
        ("{group}_*/*", None),
        ("(p\\d+)_", ["p1", "p1", "p2", "p1", "p3"]),
        ("^(.+)_", ["a/p1", "a/p1", "a/p2", "b/p1", "b/p3"]),
    ],
)
def test_patterns(group_by, groups):
    if groups is None:
        with pytest.raises(ValueError, match="images no group, such as"):
            groups_of(FILES, group_by)
    else:
        assert groups_of(FILES, group_by) == groups


def test_tables(tmp_path):
    table = tmp_path / "who.csv"
    table.write_text("file,group\na/p1_0.png,x\na/p1_1.png,x\np2_0.png,y\nb/p1_0.png,x\np3_0.png,z\n")
    assert groups_of(FILES, table) == ["x", "x", "y", "x", "z"]
    table.write_text("file,group\np1_0.png,x\n")
    with pytest.raises(ValueError, match=r"5 of the 5 images no group, such as a/p1_0\.png"):
        groups_of(FILES, table)
    table.write_text("name\nx\n")
    with pytest.raises(ValueError, match="has the columns name; give a template"):
        groups_of(FILES, table)
    with pytest.raises(FileNotFoundError, match="there is no table"):
        groups_of(FILES, "nowhere.csv")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("film", "has 0 groups in round brackets, not one"),
        ("(a)(b)", "has 2 groups in round brackets"),
        ("(", "is no regular expression"),
        ("(xyz)", "gives 5 of the 5 images no group, such as a/p1_0.png, a/p1_1.png, a/p2_0.png and 2 more; give a"),
    ],
)
def test_patterns_that_are_none(pattern, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(".", r"\.")):
        groups_of(FILES, pattern)


def test_names_that_look_like_films():
    films = [f"{label}/{film}_{frame:03}.png" for label in "abc" for film in ("x", "y") for frame in range(6)]
    assert sequences(films) == "a/x"
    assert sequences([f"{label}/IMG_{i:04}.jpg" for label in "abc" for i in range(30)]) is None
    assert sequences([f"{label}/{i}.jpg" for label in "abc" for i in range(30)]) is None
    assert sequences([f"{label}/{name}.jpg" for label in "abc" for name in ("left", "right", "top")]) is None
    assert sequences([]) is None


def people(root: Path) -> Path:
    for label in ("ill", "well", "other"):
        for person in range(4):
            for i in range(3):
                path = root / label / f"person{person}_{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (10 * person, i, 9)).save(path)
    return root


def test_a_folder_keeps_people_apart(tmp_path):
    root = people(tmp_path / "people")
    bank = folder(root, size=4, group_by="{group}_*")
    for episodes in bank.episodes(3, 2, 4, tasks=20, count=2):
        who = [(x[:, :, 0, 0, 0] * 25.5).round() for x in (episodes.support_x, episodes.query_x)]
        for support, query in zip(*who, strict=True):
            assert not set(support.tolist()) & set(query.tolist()), "in no class, for a person has images in all"
    splits = load(root, size=4, group_by="^(.+)_")
    assert splits.train.subjects is not None
    assert splits.train.subjects.unique().numel() == 12, "a class and a person"
    (root / "ill" / "stranger.png").write_bytes((root / "ill" / "person0_0.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 of the 37 images no group, such as ill/stranger\.png"):
        folder(root, size=4, group_by="{group}_*")


@pytest.mark.slow
def test_traffic_signs(shared, tmp_path):
    """GTSRB: a track is one sign filmed in up to 30 frames, and tracks are counted anew in each class."""
    with zipfile.ZipFile(shared / "gtsrb" / "gtsrb.zip") as archive:
        archive.extractall(tmp_path)
    bank = folder(tmp_path / "gtsrb", size=8, group_by="^(.+)_")
    assert (len(bank), set(bank.sizes)) == (43, {60})
    assert sequences(bank.files)
    assert bank.subjects is not None
    assert 5 * 43 <= bank.subjects.unique().numel() <= 50 * 43
    tracks = dict(enumerate(groups_of(bank.files, "^(.+)_")))
    seen = bank.with_subjects(range(len(bank.files)))
    for shot, query in ((1, 15), (5, 15), (10, 5)):
        bank.episodes(5, shot, query, count=1)
    assert len(set(tracks.values())) == bank.subjects.unique().numel() < len(seen.files)
    with pytest.raises(ValueError, match="too few groups to take 50 shots"):
        bank.episodes(5, 50, 9, count=1)
