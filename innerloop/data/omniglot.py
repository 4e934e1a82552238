"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake, Salakhutdinov and Tenenbaum 2015)."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pooch
from rich.progress import DownloadColumn, TransferSpeedColumn

from innerloop.data.bank import Bank
from innerloop.data.cache import cache_folder, cached
from innerloop.data.decode import Stock, pixels, progress, stack
from innerloop.data.files import Read, listed, reading, signature
from innerloop.data.splits import Splits

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
MD5 = {"images_background": "68d2efa1b9178cc56df9314c21c6e718", "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811"}
CHARACTERS = {"background": 964, "evaluation": 659}
DRAWINGS = 20  # a character
REFERENCE = (1100, 100)  # characters to train and to validate; the other 423 are the test

_FILE = re.compile(r"(?:.*/)?images_(background|evaluation)/([^/]+)/([^/]+)/([^/]+\.png)")


def omniglot(
    source: Path | str | None = None, *, size: int = 28, split: Literal["reference", "official"] = "reference"
) -> Splits:
    """Omniglot from a folder you have (extracted or as the two zips), or else downloaded and checked.

    Ink is 255 on 0 as in Finn's MAML, made smaller with Pillow's LANCZOS; a class's group is its alphabet.

    split="reference": all characters in one pool, 1100 to train, 100 to validate, 423 to test, shuffled with seed 1.
    Finn's MAML shuffles the order in which a file system lists them, so its very characters cannot be had again;
    here they are sorted first. split="official": the 30 background alphabets, 5 of them drawn with seed 1 to
    validate, and the 20 evaluation alphabets to test, as the data set's authors meant it.

    Raises:
        FileNotFoundError: the source is not there, or the download failed.
        ValueError: the source is incomplete or damaged, or no such split.
    """
    if split not in ("reference", "official"):
        raise ValueError(f"Omniglot has the splits 'reference' and 'official', got {split!r}")
    if source is None:
        bank = cached(f"omniglot-{size}", lambda: _build(_download(), size))
    else:
        parts = [_find(Path(source).expanduser(), part) for part in MD5]
        bank = cached(f"omniglot-{size}-{signature(parts, 3)}", lambda: _build(parts, size))
    return _reference(bank) if split == "reference" else _official(bank)


def _reference(bank: Bank) -> Splits:
    order = list(range(len(bank)))
    random.Random(1).shuffle(order)
    a, b = REFERENCE[0], sum(REFERENCE)
    parts = zip(Splits._fields, (order[:a], order[a:b], order[b:]), strict=True)
    return Splits(*(bank.choose(sorted(chosen), f"omniglot/{part}") for part, chosen in parts))


def _official(bank: Bank) -> Splits:
    def part(of: str) -> Bank:
        return bank.choose([i for i, name in enumerate(bank.classes) if name.startswith(of)], "omniglot-official")

    banks = (*part("background").split(25 / 30, seed=1, by="group"), part("evaluation"))
    named = zip(Splits._fields, banks, strict=True)
    return Splits(*(replace(bank, name=f"omniglot-official/{name}") for name, bank in named))


def _find(folder: Path, part: str) -> Path:
    for path in (folder / part, folder / f"{part}.zip"):
        if path.exists():
            return path
    place = f"{folder} is a file" if folder.is_file() else f"no {part} or {part}.zip in {folder}"
    raise FileNotFoundError(
        f"{place}; expected a folder that holds both of {' and '.join(MD5)}, extracted "
        "or as zips. Leave the source out to download them."
    )


def _download() -> list[Path]:
    """The official archives, kept beside the decoded images."""
    return [_fetch(f"{part}.zip", md5, cache_folder() / "omniglot") for part, md5 in MD5.items()]


def _fetch(file: str, md5: str, folder: Path) -> Path:
    with progress(DownloadColumn(), TransferSpeedColumn()) as shown:
        task = shown.add_task(file, total=None, visible=False)
        bar: Any = SimpleNamespace(total=None, reset=lambda: shown.reset(task), close=lambda: None)
        bar.update = lambda count: shown.update(task, total=bar.total, advance=count, visible=True)
        fetch: Any = pooch.HTTPDownloader(progressbar=bar)  # which takes any object with these four names
        try:
            return Path(pooch.retrieve(f"{URL}/{file}", f"md5:{md5}", file, folder, downloader=fetch))
        except (OSError, ValueError) as error:  # no network, no such page, no space; a wrong checksum
            raise FileNotFoundError(
                f"Omniglot's {file} could not be downloaded from {URL} ({error}). Try again, or get both archives in "
                "another way and give their folder as the source."
            ) from error


def _build(parts: list[Path], size: int) -> Bank:
    def decoder(data: bytes) -> np.ndarray:
        return 255 - pixels(data, size, channels=1, crop=False)

    with reading(parts, 3) as files:
        stocks = _stocks(files)
        _check(stocks, parts)
        return stack("omniglot", stocks, decoder, (size, size, 1), turns=True)


def _stocks(files: dict[str, Read]) -> list[Stock]:
    """Characters by name, background/Alphabet/characterNN, and their drawings by file name."""
    found: dict[tuple[str, str, str], dict[str, Read]] = {}
    for name in sorted(files):
        if match := _FILE.fullmatch(name):
            part, alphabet, character, file = match.groups()
            found.setdefault((part, alphabet, character), {})[file] = files[name]
    return [Stock("/".join(key), key[1], found[key]) for key in sorted(found)]


def _check(stocks: list[Stock], parts: list[Path]) -> None:
    counts = {part: sum(stock.name.startswith(part) for stock in stocks) for part in CHARACTERS}
    odd = [f"{stock.name} ({len(stock.files)})" for stock in stocks if len(stock.files) != DRAWINGS]
    if counts == CHARACTERS and not odd:
        return
    wrong = f"other numbers of drawings of {listed(odd)}" if odd else f"{counts}"
    raise ValueError(
        f"Omniglot has {CHARACTERS} characters with {DRAWINGS} drawings each; {' and '.join(map(str, parts))} have "
        f"{wrong}. Copy or download them again."
    )
