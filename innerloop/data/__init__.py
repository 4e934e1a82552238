"""Data sets: glyphs (embedded), Omniglot, mini-ImageNet and your own folder, each as three banks of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innerloop.data.cache import cache_folder
from innerloop.data.folder import folder, folder_splits
from innerloop.data.glyphs import glyphs
from innerloop.data.mini_imagenet import mini_imagenet
from innerloop.data.omniglot import omniglot
from innerloop.data.splits import Splits

NAMES = ("glyphs", "omniglot", "mini-imagenet")

__all__ = ["NAMES", "Splits", "cache_folder", "folder", "folder_splits", "glyphs", "load", "mini_imagenet", "omniglot"]


def load(name: Path | str, *, source: Path | str | None = None, **options: Any) -> Splits:
    """The data set of this name, or the folder at this path.

    Args:
        name: one of `NAMES`, or a folder with one sub-folder a class.
        source: where Omniglot or mini-ImageNet lies on this machine.
        options: what `glyphs`, `omniglot`, `mini_imagenet` or `folder_splits` takes besides.

    Raises:
        FileNotFoundError: the source is not there, or a download failed.
        ValueError: there is neither such a data set nor such a folder, or the data is damaged.
    """
    if name == "omniglot":
        return omniglot(source, **options)
    if name == "mini-imagenet":
        return mini_imagenet(source, **options)
    if source is not None:
        raise ValueError(f"only omniglot and mini-imagenet take a source, {str(name)!r} does not")
    if name == "glyphs":
        return glyphs(**options)
    if not Path(name).expanduser().exists():
        raise ValueError(
            f"there is no data set and no folder {str(name)!r}. There are {', '.join(NAMES)}, or give the path of a "
            "folder with one sub-folder of images a class."
        )
    return folder_splits(name, **options)
