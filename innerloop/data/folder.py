"""Your own images: a folder with one sub-folder a class."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from innerloop.data.bank import Bank
from innerloop.data.cache import cached
from innerloop.data.decode import Stock, decode, pixels
from innerloop.data.files import broken_links, hidden, images_in, listed, signature, walk
from innerloop.data.split_file import chosen, read_split, repeated
from innerloop.data.splits import Splits
from innerloop.data.subjects import groups_of

_EXPECTED = "expected a folder with one sub-folder of images a class"

_SIDES = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}  # what their folders are called


class _How(NamedTuple):
    size: int
    grey: bool | None
    skip_bad: bool
    least: int


def folder(
    path: Path | str,
    *,
    size: int = 84,
    grey: bool | None = None,
    skip_bad: bool = False,
    least: int = 2,
    group_by: Path | str | None = None,
) -> Bank:
    """The bank of a folder that holds one sub-folder a class, sorted by name.

    Any format that Pillow reads will do. An image is turned upright by its EXIF orientation, put on white where it
    is transparent, resized until its short side has `size` pixels, and its middle square is kept.

    Args:
        grey: one channel or three; None is three unless no image has any colour.
        skip_bad: leave out damaged images and small classes, with a warning when the folder is first decoded.
        least: images that a class must have.
        group_by: which images show the same (a patient, a film, a physical sign) and never stand on both sides of a
            task: a template for file names such as "{group}_*", a regular expression with one group for class/file, or
            a csv table with the columns file and group.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: the folder has no sub-folders, or damaged images or small classes, which are named; or images have
            no group.
    """
    root = Path(path).expanduser()
    return _grouped(_bank(_name(root), {"": root}, _How(size, grey, skip_bad, least)), group_by)


def folder_splits(
    path: Path | str,
    *,
    fractions: tuple[float, float] = (0.64, 0.16),
    way: int = 1,
    seed: int = 0,
    split: Path | str | None = None,
    known: dict[str, list[str]] | None = None,
    size: int = 84,
    grey: bool | None = None,
    skip_bad: bool = False,
    least: int = 2,
    group_by: Path | str | None = None,
) -> Splits:
    """The classes of a folder to train on, to validate and to test, none of them in two parts.

    Where `path` holds the folders train, val (or valid, validation) and test, each with one sub-folder a class, they
    are the split. Otherwise it is the one in `split`, or else drawn by class with `seed`: `fractions` of the
    classes to train and to validate, the rest to test, and at least `way` to each where there are enough. The file
    is csv with the columns class and split, or JSON {"train": [classes], "val": [...], "test": [...]}; classes it
    does not name are left out. Where one would be drawn, `known`, the classes of each part at an earlier time, is taken
    instead: a folder that has got or lost a class would be drawn anew, and what was trained on tested.

    Raises:
        FileNotFoundError: no such folder or split file.
        ValueError: as for `folder`; or a part would be empty, or a class is in two.
    """
    root, how = Path(path).expanduser(), _How(size, grey, skip_bad, least)
    name = _name(root)
    sides = {
        part: next((root / called for called in names if (root / called).is_dir()), root / part)
        for part, names in _SIDES.items()
    }
    if split is None and all(side.is_dir() for side in sides.values()) and any(map(class_folders, sides.values())):
        bank = _grouped(_bank(name, sides, how), group_by)
        grouped = list(zip(bank.classes, bank.groups, strict=True))
        return chosen(bank, {part: [label for label, group in grouped if group == part] for part in sides})
    wanted = None if split is None else read_split(Path(split).expanduser())  # before the long decoding
    bank = _grouped(_bank(name, {"": root}, how), group_by)
    then = {label for labels in (known or {}).values() for label in labels}
    if wanted is None and (gone := then - {*bank.classes}):
        raise ValueError(
            f"{name} lacks classes that this run was trained, validated or tested on, or they were left out: "
            f"{listed(sorted(gone))}. Put them back, or train anew with another --out."
        )
    if wanted := wanted or known:
        return chosen(bank, wanted)
    parts = zip(Splits._fields, bank.split(*_with_room(fractions, len(bank), way), seed=seed), strict=True)
    return Splits(*(replace(part, name=f"{name}/{side}") for side, part in parts))


def _name(root: Path) -> str:
    return Path(os.path.realpath(root)).name  # unlike Path.resolve it fails on no circle of links


def _grouped(bank: Bank, group_by: Path | str | None) -> Bank:
    return bank if group_by is None else bank.with_subjects(groups_of(bank.files, group_by))


def _bank(name: str, sides: dict[str, Path], how: _How) -> Bank:
    """One bank of the classes below these folders; a folder's key is the group of its classes, if not empty."""
    for part, side in sides.items():
        check_folder(side)
        if not part:
            _check_unsplit(side)
    labels = [folder.name for side in sides.values() for folder in class_folders(side)]  # an empty class has no file
    lost = [link for side in sides.values() for link in broken_links(side)]
    key = f"folder-{name}-{signature(list(sides.values()), 2, labels, lost, tuple(sides), how)}"
    return cached(key, lambda: _build(name, _stocks(sides), lost, how))


def _with_room(fractions: tuple[float, float], count: int, way: int) -> tuple[float, float]:
    """The nearest fractions that leave each of three parts `way` of `count` classes, or one where that cannot be.

    Only the edges between the parts move, so that no other `way` takes what was trained on into the test.
    """
    least = way if count >= 3 * way else 1
    if count < 3 * least:
        return fractions
    first, second = (round(edge * count) for edge in (fractions[0], sum(fractions)))
    first = min(max(first, least), count - 2 * least)
    second = min(max(second, first + least), count - least)
    return first / count, (second - first) / count


def class_folders(side: Path) -> list[Path]:
    """The sub-folders of a folder, each a class, by name."""
    return sorted((path for path in side.iterdir() if path.is_dir() and not hidden(path.name)), key=lambda p: p.name)


def last_changed(root: Path) -> float:
    """When a folder of images, split or not, last got, lost or changed one: seconds since 1970."""
    outer = class_folders(root)
    folders = [root, *outer, *(inner for side in outer for inner in class_folders(side))]
    return max(*(path.stat().st_mtime for path in folders), *(file.changed / 1e9 for file in walk(root, 3)))


def check_folder(side: Path) -> None:
    """Say what is wrong with a folder that ought to hold one sub-folder a class."""
    if not side.exists():
        raise FileNotFoundError(f"there is no folder {side}; {_EXPECTED}")
    if not side.is_dir():
        raise ValueError(f"{side} is a file; {_EXPECTED}. If it is an archive, unpack it first.")
    if not class_folders(side):
        inside = "its images lie directly in it" if next(walk(side, 1), None) else "it has no sub-folders"
        raise ValueError(f"{side} has no classes: {inside}; {_EXPECTED}, named after the class")


def _check_unsplit(root: Path) -> None:
    """Say that sub-folders named as parts of a split, with folders and no images in them, are no classes."""
    called = {name for names in _SIDES.values() for name in names}
    sides = [side for side in class_folders(root) if side.name.lower() in called and class_folders(side)]
    if found := [side.name for side in sides if next(walk(side, 1), None) is None]:
        raise ValueError(
            f"{root} has {' and '.join(found)}, which look like parts of a split and not like classes. A folder that "
            "is split holds train/, val/ and test/, all three, each with one sub-folder of images a class: move some "
            f"classes into the missing ones, or put all classes directly into {root.name}/"
        )


def _stocks(sides: dict[str, Path]) -> list[Stock]:
    stocks = [
        Stock(folder.name, side or folder.name, images_in(folder))
        for side, path in sides.items()
        for folder in class_folders(path)
    ]
    twice = repeated([stock.name for stock in stocks])
    if twice:
        raise ValueError(
            f"{next(iter(sides.values())).parent} has classes on several sides of its split: {listed(twice)}. "
            "A few-shot learner is tested on classes it has not seen: keep each class on one side, or put all classes "
            "into one folder, which is then split by class."
        )
    return stocks


def _build(name: str, stocks: list[Stock], lost: list[str], how: _How) -> Bank:
    files = [(stock.name, file) for stock in stocks for file in stock.files]
    reads = [read for stock in stocks for read in stock.files.values()]
    channels = 1 if how.grey else 3
    decoder = partial(pixels, size=how.size, channels=channels)
    images, bad = decode(reads, decoder, (how.size, how.size, channels), name)
    sizes = Counter(label for i, (label, _) in enumerate(files) if i not in bad)
    kept = [stock for stock in stocks if sizes[stock.name] >= max(how.least, 1)]

    problems = [f"{'/'.join(files[i])} ({reason})" for i, reason in sorted(bad.items())]
    problems += [f"{link} (a link that leads nowhere, or in a circle)" for link in lost]
    problems += [_smallness(stock, sizes[stock.name], how.least) for stock in stocks if stock not in kept]
    if problems:
        _report(name, problems, how.skip_bad and len(kept) > 0)
        labels = {stock.name for stock in kept}
        good = [i for i, (label, _) in enumerate(files) if i not in bad and label in labels]
        images, files = images[good], [files[i] for i in good]
    if how.grey is None and all((image == image[..., :1]).all() for image in images):
        images = np.ascontiguousarray(images[..., :1])
    labels, groups = [stock.name for stock in kept], [stock.group for stock in kept]
    about = {"name": name, "white": 255, "files": ["/".join(file) for file in files]}
    return Bank.stack(torch.from_numpy(images), [sizes[label] for label in labels], labels, groups, **about)


def _report(name: str, problems: list[str], go_on: bool) -> None:
    if not go_on:
        raise ValueError(
            f"{name} cannot be used as it is: {listed(problems)}. Mend or remove them; skip_bad=True (--skip-bad) "
            "leaves them out where something remains."
        )
    warnings.warn(f"{name}: left out {listed(problems)}", stacklevel=2)


def _smallness(stock: Stock, count: int, least: int) -> str:
    if not stock.files:
        return f"{stock.name} (no images directly in it)"
    return f"{stock.name} ({count} {'image' if count == 1 else 'images'}, fewer than {least})"
