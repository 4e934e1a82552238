"""Image files in folders and zips: which there are, how each is read, and whether anything has changed.

`walk` and `reading` find the files, `read` reads one, `signature` names the cache entry that holds the outcome. What
stands in a folder under the name of an image and is none is found, too, so that it is named where it is read: a pipe,
a link that leads nowhere or in a circle, a folder that may not be listed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

Read = Callable[[], bytes]
HUB = "hf://"  # what a source on Hugging Face begins with

_LARGEST = 2**30  # bytes: more than any photograph has
_NO_IMAGES = {"thumbs.db", "desktop.ini"}
_NO_IMAGE_SUFFIXES = (
    *(".txt", ".md", ".rst", ".html", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".xlsx"),
    *(".log", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".parquet"),
    *(".zip", ".tar", ".gz", ".mp4", ".mov", ".avi", ".wav", ".mp3"),
)


class File(NamedTuple):
    """A file below some folder; any change of its content changes this value."""

    name: str  # its path from that folder, with forward slashes
    size: int  # bytes
    changed: int  # nanoseconds since 1970


def whole_path(path: Path | str) -> str:
    """A path that is the same wherever one is, without `~`; unlike with `Path.resolve` links stay links.

    A source on Hugging Face, hf://owner/name, stays as it is.
    """
    return str(path) if str(path).startswith(HUB) else os.path.abspath(Path(path).expanduser())


def hidden(name: str) -> bool:
    """Whether a system put this there, as .DS_Store, ._photo.jpg and __MACOSX are."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def may_be_image(name: str) -> bool:
    """Whether a file is worth decoding: not hidden, and not plainly something else."""
    base = name.rpartition("/")[2].lower()
    return not hidden(name) and base not in _NO_IMAGES and not base.endswith(_NO_IMAGE_SUFFIXES)


def walk(folder: Path, depth: int) -> Iterator[File]:
    """Every file that may be an image, down to `depth` levels, sorted; links are followed, but never in a circle.

    Raises:
        OSError: `folder` itself cannot be listed.
    """
    yield from _walk(folder, depth, ())


def _walk(folder: Path, depth: int, above: tuple[tuple[int, int], ...]) -> Iterator[File]:
    above = (*above, _identity(os.stat(folder)))
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if not (about := _about(entry.path)):  # it went while we looked
            continue
        if not stat.S_ISDIR(about.st_mode):
            if may_be_image(entry.name):
                yield File(entry.name, about.st_size, about.st_mtime_ns)
        elif depth > 1 and not hidden(entry.name) and _identity(about) not in above:
            try:
                for file in _walk(Path(entry), depth - 1, above):
                    yield file._replace(name=f"{entry.name}/{file.name}")
            except PermissionError:
                yield File(entry.name, 0, about.st_mtime_ns)


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _about(path: str) -> os.stat_result | None:
    """What a path leads to; of a link that leads nowhere or in a circle, the link itself."""
    for look in (os.stat, os.lstat):
        with suppress(OSError):
            return look(path)
    return None


def images_in(folder: Path) -> dict[str, Read]:
    """The files directly in a folder that may be images, by name, each with the function that reads it."""
    try:
        return {file.name: partial(read, folder / file.name) for file in walk(folder, 1)}
    except PermissionError:
        return {"": partial(read, folder)}  # which says so


def broken_links(folder: Path) -> list[str]:
    """The names in a folder that are links and lead nowhere, or in a circle, and may stand for a class."""
    with os.scandir(folder) as entries:
        links = [entry for entry in entries if entry.is_symlink() and may_be_image(entry.name)]
    return sorted(entry.name for entry in links if not os.path.exists(entry.path))


def read(path: Path) -> bytes:
    """The content of a file; a pipe, a socket or a device is refused, for to read one may never end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file, or far too large for an image.
    """
    about = os.stat(path)
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        raise ValueError("a pipe, a socket or a device, not a file")
    if about.st_size > _LARGEST:
        raise ValueError(f"{about.st_size / 2**30:.1f} GB, too large for an image")
    return path.read_bytes()


@contextmanager
def reading(sources: Sequence[Path], depth: int) -> Iterator[dict[str, Read]]:
    """The files of folders and zips that may be images; a name in a folder starts with the folder's own."""
    with ExitStack() as stack:
        files: dict[str, Read] = {}
        for source in sources:
            if source.is_dir():
                files |= {f"{source.name}/{f.name}": partial(read, source / f.name) for f in walk(source, depth)}
            else:
                archive = stack.enter_context(_open_zip(source))
                names = [name for name in archive.namelist() if not name.endswith("/") and may_be_image(name)]
                files |= {name: partial(archive.read, name) for name in names}
        yield files


def signature(sources: Sequence[Path], depth: int, *settings: object) -> str:
    """A short text that changes when a file in these folders, one of these files, or a setting changes."""
    stamps = [list(walk(source, depth)) if source.is_dir() else _stamp(source) for source in sources]
    known = repr(([os.path.realpath(source) for source in sources], stamps, settings))
    return hashlib.blake2b(known.encode(), digest_size=8).hexdigest()


def listed(items: Sequence[str], most: int = 10) -> str:
    """The first items of a list that may be long, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _open_zip(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise ValueError(f"{path} is neither a folder nor a zip file")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is cut off or no zip ({error}): copy or download it again") from error


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns
