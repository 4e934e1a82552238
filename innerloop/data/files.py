"""Image files in folders and zips, decoded into one uint8 array.

Every data set made of files goes through here: `walk` or `reading` finds the files, `pixels` decodes one of them,
`decode` decodes all of them on all cores, and `signature` names the cache entry that holds the outcome.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from innerloop.data.episodes import ImageBank

Read = Callable[[], bytes]

_TURNS = {  # EXIF orientation: what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNKNOWN = "not an image, or of a format that Pillow cannot read here"
_BATCH = 64  # images a thread decodes before it reports: few enough for a lively bar, enough to cost nothing
_NO_IMAGES = {"thumbs.db", "desktop.ini"}
_NO_IMAGE_SUFFIXES = (
    *(".txt", ".md", ".rst", ".html", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".xlsx"),
    *(".log", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".parquet"),
    *(".zip", ".tar", ".gz", ".mp4", ".mov", ".avi", ".wav", ".mp3"),
)


class Stock(NamedTuple):
    """One class before it is decoded: its images in order, by name, each with the function that reads it."""

    name: str
    group: str
    files: dict[str, Read]


class File(NamedTuple):
    """A file below some folder; any change of its content changes this value."""

    name: str  # its path from that folder, with forward slashes
    size: int  # bytes
    changed: int  # nanoseconds since 1970


def hidden(name: str) -> bool:
    """Whether a system put this there, as .DS_Store, ._photo.jpg and __MACOSX are."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def may_be_image(name: str) -> bool:
    """Whether a file is worth decoding: not hidden, and not plainly something else."""
    base = name.rpartition("/")[2].lower()
    return not hidden(name) and base not in _NO_IMAGES and not base.endswith(_NO_IMAGE_SUFFIXES)


def walk(folder: Path, depth: int) -> Iterator[File]:
    """Every file that may be an image, down to `depth` levels, sorted; links are followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                if depth > 1 and not hidden(entry.name):
                    inside = walk(Path(entry), depth - 1)
                    yield from (file._replace(name=f"{entry.name}/{file.name}") for file in inside)
            elif may_be_image(entry.name):
                about = entry.stat(follow_symlinks=entry.is_file())  # a dangling link counts: reading it names it
                yield File(entry.name, about.st_size, about.st_mtime_ns)


@contextmanager
def reading(sources: Sequence[Path], depth: int) -> Iterator[dict[str, Read]]:
    """The files of folders and zips that may be images; a name in a folder starts with the folder's own."""
    with ExitStack() as stack:
        files: dict[str, Read] = {}
        for source in sources:
            if source.is_dir():
                files |= {f"{source.name}/{f.name}": (source / f.name).read_bytes for f in walk(source, depth)}
            else:
                archive = stack.enter_context(_open_zip(source))
                names = [name for name in archive.namelist() if not name.endswith("/") and may_be_image(name)]
                files |= {name: partial(archive.read, name) for name in names}
        yield files


def signature(sources: Sequence[Path], depth: int, *settings: object) -> str:
    """A short text that changes when a file in these folders, one of these files, or a setting changes."""
    stamps = [list(walk(source, depth)) if source.is_dir() else _stamp(source) for source in sources]
    known = repr(([str(source.resolve()) for source in sources], stamps, settings))
    return hashlib.blake2b(known.encode(), digest_size=8).hexdigest()


def pixels(data: bytes, size: int, *, channels: int = 3, crop: bool = True) -> np.ndarray:
    """One image file as (size, size, channels) uint8: grey for one channel, RGB for three.

    It is turned upright by its EXIF orientation, transparent parts become white, and 16 bits become 8. `crop` makes
    the short side `size` and cuts the middle out of the long one; without it the image is squeezed to a square.

    Raises:
        Exception: of almost any type, from Pillow's decoders on damaged bytes.
    """
    with Image.open(io.BytesIO(data)) as image:
        if crop:
            image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at 1/2 to 1/8, never below twice `size`
        return square(image, size, channels=channels, crop=crop)


def square(image: Image.Image, size: int, *, channels: int, crop: bool) -> np.ndarray:
    """An image of any mode and size as `pixels` gives it."""
    flat = _flat(image, "L" if channels == 1 else "RGB")
    if crop:
        flat = ImageOps.fit(flat, (size, size), Image.Resampling.LANCZOS)
    else:
        flat = flat.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(flat).reshape(size, size, channels)


def decode(
    reads: Sequence[Read], decoder: Callable[[bytes], np.ndarray], shape: Sequence[int], title: str
) -> tuple[np.ndarray, dict[int, str]]:
    """All images as (n, *shape) uint8, and the reason for each index that could not be decoded.

    Threads, because Pillow's decoders let other threads run while they work.
    """
    images = np.empty((len(reads), *shape), np.uint8)

    def fill(indices: range) -> dict[int, str]:
        bad = {}
        for i in indices:
            try:
                images[i] = decoder(reads[i]())
            except UnidentifiedImageError:
                bad[i] = UNKNOWN
            except Exception as error:  # no narrower type covers what decoders raise on damaged bytes
                bad[i] = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return bad

    batches = [range(a, min(a + _BATCH, len(reads))) for a in range(0, len(reads), _BATCH)]
    bad: dict[int, str] = {}
    with warnings.catch_warnings(), progress(MofNCompleteColumn(), TextColumn("{task.fields[rate]}")) as bar:
        warnings.filterwarnings("ignore", module="PIL")  # of one file among thousands, and large photos are welcome
        task, start = bar.add_task(title, total=len(reads), rate=""), time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch, failed in zip(batches, pool.map(fill, batches), strict=True):
                bad |= failed
                rate = f"{batch.stop / (time.perf_counter() - start):,.0f} images/s"
                bar.update(task, completed=batch.stop, rate=rate)
    return images, bad


def stack(
    name: str, stocks: Sequence[Stock], decoder: Callable[[bytes], np.ndarray], shape: Sequence[int], **about: Any
) -> ImageBank:
    """The bank of these classes, every image decoded.

    Raises:
        ValueError: an image cannot be decoded; the message names it.
    """
    names = [f"{stock.name}/{file}" for stock in stocks for file in stock.files]
    images, bad = decode([read for stock in stocks for read in stock.files.values()], decoder, shape, name)
    if bad:
        raise ValueError(
            f"{name} has images that cannot be decoded: {listed([f'{names[i]} ({bad[i]})' for i in sorted(bad)])}. "
            "Copy or download it again."
        )
    sizes, classes, groups = zip(*((len(stock.files), stock.name, stock.group) for stock in stocks), strict=True)
    return ImageBank.stack(torch.from_numpy(images), sizes, classes, groups, name=name, **about)


def listed(items: Sequence[str], most: int = 10) -> str:
    """The first items of a list that may be long, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on stderr with a title, these columns and the time left."""
    left = TimeRemainingColumn(elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), *columns, left, console=Console(stderr=True))


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """The image upright, opaque and with 8 bits a channel, in `mode`."""
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # first, because Pillow turns a TIFF itself while it loads, and then says so
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF, which raises almost anything, is no reason to lose intact pixels
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels, of which white is unknown: save it with 8 or 16 bits")
    if values.dtype.itemsize > 2 and values.max() <= 255:  # 8 bits in disguise: as 16 bits it would be black
        return values.astype(np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is cut off or no zip ({error}): copy or download it again") from error


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns
