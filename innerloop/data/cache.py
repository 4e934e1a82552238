"""Decoded images kept on disk: one safetensors file a bank, memory-mapped when it is opened again."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pooch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from innerloop.data.episodes import ImageBank

_ABANDONED = 3600  # seconds without a write after which nobody is writing a file any more


def cache_folder() -> Path:
    """Where decoded images and downloads are kept: $INNERLOOP_CACHE, or the user's cache folder."""
    return Path(os.environ.get("INNERLOOP_CACHE") or pooch.os_cache("innerloop"))


def cached(key: str, build: Callable[[], ImageBank]) -> ImageBank:
    """The bank kept under `key`, or else the one that `build()` makes, which is then kept.

    A file that cannot be read is built again; a folder that cannot be written costs a warning and the next start.
    """
    path = cache_folder() / (re.sub(r"[^\w.-]+", "-", key) + ".safetensors")
    _sweep(path.parent)
    if path.exists():
        try:
            return open_bank(path)
        except (SafetensorError, KeyError, OSError, ValueError) as error:
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


def kept_tensor(key: str, build: Callable[[], Tensor]) -> Tensor:
    """The tensor kept under `key`, memory-mapped, or else the one that `build()` makes, which is then kept."""
    path = cache_folder() / (re.sub(r"[^\w.-]+", "-", key) + ".safetensors")
    if path.exists():
        try:
            return load_file(path)["values"]
        except (SafetensorError, KeyError, OSError) as error:
            warnings.warn(f"{path} cannot be read ({error}); making it again", stacklevel=2)
    values = build()
    try:
        _write({"values": values.cpu().contiguous()}, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"{key} could not be kept in {path.parent} ({error}), so the next start makes it again; "
            "set INNERLOOP_CACHE to a folder with space",
            stacklevel=2,
        )
    return values


def save_bank(bank: ImageBank, path: Path) -> None:
    """Write a whole bank (one whose classes lie one after the other) to `path`, atomically."""
    about = {key: getattr(bank, key) for key in ("sizes", "classes", "groups", "name", "turns")}
    _write({"images": bank.images.cpu().contiguous()}, path, {"innerloop.bank": json.dumps(about)})


def _write(tensors: dict[str, Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """The whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, about)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a bank have left, up to 1.27 GB each."""
    for left in folder.glob(".*.safetensors.*.part"):
        with suppress(OSError):  # it has just become whole, or is not ours to remove
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def open_bank(path: Path) -> ImageBank:
    """Open a bank that `save_bank` wrote; its pixels stay on disk until they are used."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["innerloop.bank"])
        return ImageBank.stack(file.get_tensor("images"), **about)
