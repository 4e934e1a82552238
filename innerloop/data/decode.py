"""Image files decoded by Pillow into one uint8 array.

`pixels` decodes one file, `square` brings an image of any mode and size to the one that a network takes, `decode` does
it for all files on all cores.
"""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from innerloop.data.bank import Bank
from innerloop.data.files import Read, listed
from innerloop.progress import on_terminal

UNKNOWN = "not an image, or of a format that Pillow cannot read here"
_BATCH = 64  # images a thread decodes before it reports: few enough for a lively bar, enough to cost nothing


class Stock(NamedTuple):
    """One class before it is decoded: its images in order, by name, each with the function that reads it."""

    name: str
    group: str
    files: dict[str, Read]


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
) -> Bank:
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
    return Bank.stack(torch.from_numpy(images), sizes, classes, groups, name=name, white=255, **about)


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on stderr with a title, these columns and the time left: only on a terminal, and not with --quiet."""
    console = Console(stderr=True, quiet=not on_terminal())
    left = TimeRemainingColumn(elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), *columns, left, console=console)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """The image upright, opaque and with 8 bits a channel, in `mode`."""
    image.load()  # a damaged image is said; damaged EXIF, which raises almost anything, costs no intact pixels
    with suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert(mode)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels, of which white is unknown: save it with 8 or 16 bits")
    if values.dtype.itemsize > 2 and values.max() <= 255:  # 8 bits in disguise: as 16 bits it would be black
        return values.astype(np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
