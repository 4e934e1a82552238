"""Data sets of other libraries as banks: torchvision's and whatever is built like them, and Hugging Face's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from innerloop.data.bank import Bank
from innerloop.data.decode import square

_IMAGES = ("image", "img", "pixel_values", "features")
_LABELS = ("label", "labels", "fine_label", "class", "target")


def from_dataset(
    dataset: Any, *, size: int | None = None, image: str = "", label: str = "", name: str = "", **more: Any
) -> Bank:
    """The bank of a data set of another library, all of which is read into memory.

    It has a length and gives by index a pair (item, label), as torchvision's do, or a row with an image and a label,
    as Hugging Face's do. PIL images become images, made square of `size` pixels where it is given; arrays and tensors
    of one shape stay as they are. Classes are called as the data set calls them.

        >>> import torch, innerloop
        >>> pairs = torch.utils.data.TensorDataset(torch.randn(30, 8), torch.arange(30) % 3)
        >>> innerloop.data.from_dataset(pairs, name="pairs")
        Bank('pairs': 3 classes, 30 items of 8, float32)

    Args:
        dataset: what holds them.
        size: pixels a side of its images: the short side gets it, and the middle square is kept.
        image: the column of a row that holds the image, if it is not plain.
        label: the column that holds the label.
        name: the bank's; its episodes hang on it.
        more: other fields of the bank, such as `subjects` or `turns`.

    Raises:
        ValueError: it gives no such pairs or rows, or items of different shapes.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"expected a data set with a length and an index, got {type(dataset).__name__}; make it a list"
        )
    pairs = [_pair(dataset, dataset[i], image, label) for i in range(len(dataset))]
    if not pairs:
        raise ValueError("the data set is empty; give one with items")
    items, labels = [item for item, _ in pairs], [label for _, label in pairs]
    more = {"name": name or type(dataset).__name__.lower(), "classes": _classes(dataset, label, labels)} | more
    if not all(isinstance(item, Image.Image) for item in items):
        return Bank.of(_stacked(items), labels, **more)
    grey = all(item.mode in ("1", "L", "LA", "I;16") for item in items)
    return Bank.of_images(_pictures(items, size, 1 if grey else 3), labels, **more)


def _pair(dataset: Any, row: Any, image: str, label: str) -> tuple[Any, Any]:
    if isinstance(row, dict):
        item, target = (_column(row, *asked) for asked in ((image, _IMAGES, "image"), (label, _LABELS, "label")))
    elif isinstance(row, Sequence) and len(row) == 2:
        item, target = row
    else:
        raise ValueError(
            f"expected pairs (item, label) or rows with an image and a label; {type(dataset).__name__} gives "
            f"{type(row).__name__}: turn it into such pairs"
        )
    target = target.item() if hasattr(target, "item") else target
    if not isinstance(target, int | str):
        raise ValueError(
            f"expected a class as the label, a number or text, got {type(target).__name__}: give its column"
        )
    return item, target


def _column(row: dict[str, Any], asked: str, usual: Sequence[str], what: str) -> Any:
    found = [asked] if asked else [name for name in usual if name in row]
    if not found or found[0] not in row:
        raise ValueError(f"no column {asked or what!r} among {', '.join(row)}: say which it is with {what}=...")
    return row[found[0]]


def _classes(dataset: Any, label: str, labels: list[Any]) -> Sequence[str]:
    """The names of its classes, by label; empty where it has none, or labels are names."""
    if any(isinstance(label, str) for label in labels):
        return ()
    whole = getattr(dataset, "dataset", dataset)  # of a torch.utils.data.Subset
    features = getattr(whole, "features", None) or {}
    for column in [label] if label else _LABELS:
        if names := getattr(features.get(column) if hasattr(features, "get") else None, "names", None):
            return list(names)
    classes = getattr(whole, "classes", None) or ()
    return [str(name) for name in classes]


def _pictures(items: list[Image.Image], size: int | None, channels: int) -> np.ndarray:
    """The images as (n, h, w, c) uint8."""
    sizes = {item.size for item in items}
    if size is None and len(sizes) > 1:
        raise ValueError(
            f"the images have {len(sizes)} sizes, such as {sorted(sizes)[:2]}: give size=, such as size=84"
        )
    if size is not None:
        return np.stack([square(item, size, channels=channels, crop=True) for item in items])
    mode = "L" if channels == 1 else "RGB"
    return np.stack([np.asarray(item.convert(mode)).reshape(*item.size[::-1], channels) for item in items])


def _stacked(items: list[Any]) -> Tensor:
    tensors = [torch.as_tensor(np.asarray(item) if isinstance(item, Image.Image | list) else item) for item in items]
    if len(shapes := {tuple(x.shape) for x in tensors}) > 1:
        raise ValueError(f"items have different shapes, such as {sorted(shapes)[:2]}: bring them to one shape first")
    return torch.stack(tensors)
