"""Images and the labels that users give with them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data.files import walk
from innerloop.data.folder import check_folder, class_folders
from innerloop.data.pictures import as_list


def read_folder(path: Path | str) -> tuple[list[Path], list[str]]:
    """The images of a folder with one sub-folder a class, and their labels, which are the sub-folders' names.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has no sub-folders, or one of them has no images.
    """
    root = Path(path).expanduser()
    check_folder(root)
    found = {folder.name: [folder / file.name for file in walk(folder, 1)] for folder in class_folders(root)}
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{root} has classes without images: {', '.join(empty)}; add images or remove the folders")
    return [file for files in found.values() for file in files], [name for name in found for _ in found[name]]


def pairs(images: Iterable[Any], labels: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Images and labels; these as Python's own values, so that numpy's and torch's numbers compare and can be saved."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ValueError(f"expected a sequence of labels, one an image, got {type(labels).__name__}")
    pictures, names = as_list(images), [label.item() if hasattr(label, "item") else label for label in labels]
    if odd := [name for name in names if not isinstance(name, Hashable) or name != name]:
        raise ValueError(f"a label is text, a number or another hashable value, got {odd[0]!r}")
    if len(pictures) != len(names):
        raise ValueError(f"{len(pictures)} images but {len(names)} labels; give one label an image")
    return pictures, names


def in_order(names: list[Any]) -> list[Any]:
    """Each of them once: sorted where they can be, else as they come."""
    try:
        return sorted(set(names))
    except TypeError:  # kinds that have no order
        return list(dict.fromkeys(names))


def as_array(classes: list[Any]) -> np.ndarray:
    """Text and numbers as numpy has them, anything else and any mixture as objects, (w,)."""
    kinds = {type(label) for label in classes}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        return np.array(classes)
    return np.fromiter(classes, object, len(classes))
