"""Decoded images kept on disk: one safetensors file a bank, memory-mapped when it is opened again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pooch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from innerloop.data.bank import Bank

_ABANDONED = 3600  # seconds without a write after which nobody is writing a file any more
_BANK = "innerloop.bank.2"  # where a file's metadata hold what the bank is, beside its items
_DOWNLOADS = ("omniglot/*.zip",)


class Kept(NamedTuple):
    """A file in the cache."""

    path: Path
    size: int  # bytes
    used: float  # when it was last opened, in seconds since 1970
    what: str


def cache_folder() -> Path:
    """Where decoded images and downloads are kept: $INNERLOOP_CACHE, or the user's cache folder."""
    return Path(os.environ.get("INNERLOOP_CACHE") or pooch.os_cache("innerloop")).expanduser()


def cached(key: str, build: Callable[[], Bank]) -> Bank:
    """The bank kept under `key`, or else the one that `build()` makes, which is then kept.

    A file that cannot be read is built again; a folder that cannot be written costs a warning and the next start.
    """
    path = cache_folder() / f"{_file_name(key)}.safetensors"
    _sweep(path.parent)
    if path.exists():
        try:
            bank = open_bank(path)
            with suppress(OSError):  # a cache that is not ours
                os.utime(path)
            return bank
        except (SafetensorError, KeyError, OSError, ValueError, TypeError) as error:
            warnings.warn(f"{path} cannot be read ({error}); building it again", stacklevel=2)
    bank = build()
    try:
        save_bank(bank, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"{bank.name} could not be kept in {path.parent} ({error}), so the next start decodes it again; "
            "set INNERLOOP_CACHE to a folder with space",
            stacklevel=2,
        )
        return bank
    return open_bank(path)


def kept(folder: Path) -> list[Kept]:
    """What innerloop keeps in a folder, by name; what else lies there is not ours."""
    banks = [(path, _title(path)) for path in folder.glob("*.safetensors")]
    parts = [(path, "left by a process that was killed") for path in folder.glob(".*.safetensors.*.part")]
    downloads = [(path, "download") for pattern in _DOWNLOADS for path in folder.glob(pattern)]
    found = []
    for path, what in sorted([*banks, *parts, *downloads]):
        with suppress(OSError):  # it has just gone
            about = path.stat()
            found += [Kept(path, about.st_size, about.st_mtime, what)] if what else []
    return found


def save_bank(bank: Bank, path: Path) -> None:
    """Write a whole bank (one whose classes lie one after the other) to `path`, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {key: getattr(bank, key) for key in ("sizes", "classes", "groups", "name", "white", "turns", "files")}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file({"items": bank.items.cpu().contiguous()}, partial, {_BANK: json.dumps(about)})
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def open_bank(path: Path) -> Bank:
    """Open a bank that `save_bank` wrote; its items stay on disk until they are used."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[_BANK])
        return Bank.stack(file.get_tensor("items"), **about)


def _title(path: Path) -> str:
    """What a file of the cache holds, from its head alone; empty if it is not ours."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if old := [key for key in about if key.startswith("innerloop.") and key != _BANK]:
                return f"of another version of innerloop ({old[0]})"
            classes = len(json.loads(about[_BANK])["classes"]) if _BANK in about else 0
            shape = "x".join(map(str, file.get_slice("items").get_shape())) if classes else ""
            return f"{classes} classes, {shape}" if classes else ""
    except (SafetensorError, KeyError, OSError, ValueError, TypeError):
        return "damaged"


def _file_name(key: str) -> str:
    """A key as the name of a file: short, and of letters that every file system has."""
    name = re.sub(r"[^\w.-]+", "-", key, flags=re.ASCII)
    if len(name) <= 100 and name == key:
        return name
    return f"{name[:60]}-{hashlib.blake2b(key.encode(errors='surrogateescape'), digest_size=8).hexdigest()}"


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a bank have left, up to 1.27 GB each."""
    for left in folder.glob(".*.safetensors.*.part"):
        with suppress(OSError):  # it has just become whole, or is not ours to remove
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
