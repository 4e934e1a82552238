"""What is known of a data set before it is opened, and the one way to open it, be it one with a name or a folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from innerloop.choices import did_you_mean
from innerloop.data.files import whole_path
from innerloop.data.folder import folder_splits, last_changed
from innerloop.data.glyphs import glyphs
from innerloop.data.mini_imagenet import mini_imagenet
from innerloop.data.omniglot import omniglot
from innerloop.data.splits import Splits


@dataclass(frozen=True)
class DataSet:
    """One of the data sets with a name, or a user's folder of images."""

    name: str  # a folder's is its whole path, the same wherever one is
    loader: Callable[..., Splits]
    size: int = 84  # pixels a side, if nothing else is asked for
    channels: int | None = None  # of its images; None: a look at the images tells
    crop: bool = False  # whether the middle square of an image is kept; else it is squeezed to a square
    ink: bool = False  # white ink on black: a photograph of a page has to be inverted
    splits: tuple[str, ...] = ()  # its splits by name, the usual one first
    own: bool = False  # a user's folder: its classes come and go, and its split is drawn or stands in a file

    def open(
        self,
        *,
        size: int | None = None,
        split: str = "",
        source: str | None = None,
        skip_bad: bool = False,
        way: int = 1,
        known: dict[str, list[str]] | None = None,
        channels: int | None = None,
        group_by: str | None = None,
    ) -> Splits:
        """The three banks, on the CPU.

        Args:
            size: pixels a side; the data set's own if not given.
            split: one of `splits`; of a folder a split file.
            source: where a data set with a name lies.
            skip_bad: leave damaged images and small classes of a folder out.
            way: a folder that is split for you has as many classes in each part, where there are enough.
            known: the classes of each part of a folder at an earlier time, which it keeps.
            group_by: which images of a folder show the same and never stand on both sides of a task; see `folder`.
            channels: make a folder's images grey (1) or RGB (3); if not given they are grey where all of them are.

        Raises:
            FileNotFoundError: the data is not there.
            ValueError: it is damaged, or it does not take an option.
        """
        if self.own and not Path(self.name).exists():
            raise ValueError(_nothing(self.name))
        options: dict[str, Any] = {"size": size or self.size, "split": split or None, "source": source}
        options |= {"skip_bad": skip_bad or None, "group_by": group_by or None}
        if not self.own:
            return _load(self, options)
        splits = _load(self, options | {"way": way, "known": known})
        if channels in (None, splits.train.shape[0]):
            return splits
        return _load(self, options | {"way": way, "known": known, "grey": channels == 1})

    def check(self, splits: Splits, way: int, shot: int, query: int) -> None:
        """Refuse what no tasks of this shape can be drawn from.

        Raises:
            ValueError: a part has too few classes, or a class too few images or groups of them.
        """
        counts = [len(bank) for bank in splits]
        if min(counts) < way:
            raise ValueError(
                f"{splits.train.name.removesuffix('/train')} has {sum(counts)} classes, split "
                f"{'/'.join(map(str, counts))} into train/val/test; {way}-way needs {way} in each: lower --way"
                f"{' or give --split FILE' if self.own else ''}"
            )
        for bank in splits:
            bank.episodes(way, shot, query, count=1)

    def last_changed(self) -> float | None:
        """When a folder last got, lost or changed an image, in seconds since 1970; a data set with a name never does.

        None as well for a folder that is not there.
        """
        return last_changed(Path(self.name)) if self.own and Path(self.name).is_dir() else None


_NAMED = {
    known.name: known
    for known in (
        DataSet("glyphs", glyphs, size=28, channels=1, ink=True),
        DataSet("omniglot", omniglot, size=28, channels=1, ink=True, splits=("reference", "official")),
        DataSet("mini-imagenet", mini_imagenet, channels=3),
    )
}
_FOLDER = DataSet("", folder_splits, crop=True, own=True)
NAMES = tuple(_NAMED)


def data_set(what: Path | str) -> DataSet:
    """What is known of the data set of this name, or else of a folder, be it there or not."""
    if isinstance(what, str) and what in _NAMED:
        return _NAMED[what]
    return replace(_FOLDER, name=whole_path(what))


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
    found = data_set(name)
    if found.own and not Path(found.name).exists():
        raise ValueError(_nothing(name))
    return _load(found, options)


def _nothing(name: Path | str) -> str:
    return (
        f"there is no data set and no folder {str(name)!r}. There are {', '.join(NAMES)}, or give the path of a "
        f"folder with one sub-folder of images a class.{did_you_mean(str(name), NAMES)}"
    )


def _load(found: DataSet, options: dict[str, Any]) -> Splits:
    given = {option: value for option, value in options.items() if value is not None}
    takes = [option for option in inspect.signature(found.loader).parameters if option != "path"]
    for option in given:
        if option not in takes:
            raise ValueError(f"{found.name!r} takes no {option}, only {', '.join(takes)}: leave it out")
    return found.loader(found.name, **given) if found.own else found.loader(**given)
