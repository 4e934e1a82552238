"""Data sets: glyphs (embedded), Omniglot, mini-ImageNet and your own folder, each as three banks of classes."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from innerloop.data.cache import cache_folder
from innerloop.data.folder import folder, folder_splits
from innerloop.data.glyphs import glyphs
from innerloop.data.mini_imagenet import mini_imagenet
from innerloop.data.omniglot import omniglot
from innerloop.data.splits import Splits

_NAMED = {"glyphs": glyphs, "omniglot": omniglot, "mini-imagenet": mini_imagenet}
NAMES = tuple(_NAMED)

__all__ = ["NAMES", "Splits", "cache_folder", "folder", "folder_splits", "glyphs", "load", "mini_imagenet", "omniglot"]


def load(name: Path | str, **options: Any) -> Splits:
    """The data set of this name, or the folder at this path.

    Args:
        name: one of `NAMES`, or a folder with one sub-folder a class.
        options: what `glyphs`, `omniglot`, `mini_imagenet` or `folder_splits` takes, such as `size`; None stands for
            not given.

    Raises:
        FileNotFoundError: the source is not there, or a download failed.
        ValueError: there is neither such a data set nor such a folder, it does not take an option, or it is damaged.
    """
    make = partial(folder_splits, name)
    if isinstance(name, str) and name in NAMES:
        make = _NAMED[name]
    elif not Path(name).expanduser().exists():
        raise ValueError(
            f"there is no data set and no folder {str(name)!r}. There are {', '.join(NAMES)}, or give the path of a "
            "folder with one sub-folder of images a class."
        )
    given = {option: value for option, value in options.items() if value is not None}
    taken = inspect.signature(make).parameters
    for option in given:
        if option not in taken:
            raise ValueError(f"{str(name)!r} takes no {option}, only {', '.join(taken)}: leave it out")
    return make(**given)
