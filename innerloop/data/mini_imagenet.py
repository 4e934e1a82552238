"""mini-ImageNet: 100 ImageNet classes of 600 images in 84x84 RGB, split 64/16/20 (Ravi & Larochelle 2017)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

from innerloop.data.bank import Bank
from innerloop.data.cache import cached
from innerloop.data.decode import Stock, pixels, stack
from innerloop.data.files import HUB, Read, listed, read, reading, signature
from innerloop.data.splits import Splits
from innerloop.data.tables import rows_of

CLASSES = {"train": 64, "val": 16, "test": 20}
IMAGES = 600  # a class
_COLUMNS = ("filename", "label")  # of a csv file

_FILE = re.compile(r"(?:.*/)?(train|val|test)/([^/]+)/([^/]+)")
_LAYOUTS = (
    "Expected train/, val/ and test/ with one folder a class, or train*.zip, val*.zip and test*.zip with the same "
    "inside, or images/ with train.csv, val.csv and test.csv (columns filename and label)"
)


def mini_imagenet(source: Path | str | None = None, *, size: int = 84) -> Splits:
    """mini-ImageNet from a folder you have, or from the Hugging Face data set repository hf://owner/name.

    Images are squeezed to `size` x `size` with Pillow's LANCZOS as in Finn's MAML, and neither centred nor scaled.
    They are decoded once, 1.27 GB at 84 pixels, and memory-mapped from the cache afterwards. A class's group is its
    split. Without a source, the environment variable INNERLOOP_MINI_IMAGENET names it.

    Raises:
        FileNotFoundError: there is no source, or it has none of the three layouts.
        ValueError: the source is incomplete or damaged.
    """
    root = _root(source)
    parts = _parts(root)
    key = f"mini-imagenet-{size}-{signature(parts, 2)}"
    bank = cached(key, lambda: _build(root, parts, size))
    return Splits(*(_part(bank, split) for split in CLASSES))


def _part(bank: Bank, split: str) -> Bank:
    return bank.choose([i for i, group in enumerate(bank.groups) if group == split], f"{bank.name}/{split}")


def _root(source: Path | str | None) -> Path:
    source = source or os.environ.get("INNERLOOP_MINI_IMAGENET")
    if not source:
        raise FileNotFoundError(
            "mini-ImageNet is not downloaded for you: its pictures are ImageNet's, licensed for non-commercial "
            "research and not to be passed on. Give your copy as source (--source) or in INNERLOOP_MINI_IMAGENET: a "
            f"folder, or {HUB}owner/name on Hugging Face. {_LAYOUTS}."
        )
    if str(source).startswith(HUB):
        return _snapshot(str(source).removeprefix(HUB))
    root = Path(source).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root} with mini-ImageNet. {_LAYOUTS}.")
    return root


def _snapshot(repository: str) -> Path:
    try:
        snapshot_download = import_module("huggingface_hub").snapshot_download
    except ImportError as error:
        raise ValueError(f"{HUB} needs huggingface_hub: pip install '.[hub]' in innerloop's checkout") from error
    try:
        return Path(snapshot_download(repository, repo_type="dataset"))
    except (OSError, ValueError) as error:  # its errors of network, name and access all derive from these
        raise FileNotFoundError(
            f"the Hugging Face data set {repository!r} could not be downloaded ({error}). "
            "Check the name and your login, or give a local folder as source."
        ) from error


def _parts(root: Path) -> list[Path]:
    """The folders, zips or csv files that mini-ImageNet lies in below `root`."""
    folders = [root / split for split in CLASSES]
    zips = [sorted(root.glob(f"{split}*.zip")) for split in CLASSES]
    tables = [root / f"{split}.csv" for split in CLASSES]
    if all(folder.is_dir() for folder in folders):
        return folders
    if all(zips):
        return [path for paths in zips for path in paths]
    if (root / "images").is_dir() and all(table.is_file() for table in tables):
        return [root / "images", *tables]
    inside = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    raise FileNotFoundError(
        f"no mini-ImageNet in {root}, which holds {listed(inside) or 'nothing'}. {_LAYOUTS}. "
        "Pickled copies are not read, because opening a pickle can run code."
    )


def _build(root: Path, parts: list[Path], size: int) -> Bank:
    with _opened(parts) as files:
        stocks = _stocks(files)
        _check(stocks, root)
        return stack("mini-imagenet", stocks, partial(pixels, size=size, crop=False), (size, size, 3))


@contextmanager
def _opened(parts: list[Path]) -> Iterator[dict[str, Read]]:
    """The files by names that end in split/class/file, whatever the layout."""
    tables = [path for path in parts if path.suffix == ".csv"]
    if not tables:
        with reading(parts, 2) as files:
            yield files
        return
    images = parts[0]
    yield {
        f"{table.stem}/{label}/{name}": partial(read, images / name)
        for table in tables
        for name, label in rows_of(table, _COLUMNS, "expected filename and label")
    }


def _stocks(files: dict[str, Read]) -> list[Stock]:
    """Classes in the order train, val, test and then by name; their images by file name."""
    found: dict[tuple[str, str], dict[str, Read]] = {}
    for name in sorted(files):
        if match := _FILE.fullmatch(name):
            split, label, file = match.groups()
            found.setdefault((split, label), {})[file] = files[name]
    order = list(CLASSES)
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return [Stock(label, split, found[split, label]) for split, label in keys]


def _check(stocks: list[Stock], root: Path) -> None:
    """A part of the benchmark gives numbers that look like the benchmark's, so only the whole of it will do."""
    counts = {split: sum(stock.group == split for stock in stocks) for split in CLASSES}
    odd = [f"{stock.group}/{stock.name} ({len(stock.files)})" for stock in stocks if len(stock.files) != IMAGES]
    if counts == CLASSES and not odd:
        return
    wrong = f"the classes {listed(odd)} with another number of images" if odd else f"{counts} classes"
    raise ValueError(
        f"mini-ImageNet has {CLASSES} classes of {IMAGES} images each; {root} has {wrong}. "
        "Complete it; a part of it can be used as a folder of your own."
    )
