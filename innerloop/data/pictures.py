"""Images as users have them: paths, PIL images, arrays and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from innerloop.data.decode import UNKNOWN, pixels, square
from innerloop.data.files import read

_EXPECTED = "expected a path, a PIL image, or an array (h, w[, c]) or (c, h, w), uint8 or float in [0, 1]"
_CHANNELS = (1, 3)


def is_light(pixels: np.ndarray) -> bool:
    """Whether more than half of the border is light, (h, w, c) uint8."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(np.median(border) > 127)


def picture(given: Any, index: int, size: int, channels: int, crop: bool) -> np.ndarray:
    """One image of any kind as (size, size, channels) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read; the message names it, or its index.
    """
    is_path = isinstance(given, str | os.PathLike)
    try:
        if is_path:
            return pixels(read(Path(given).expanduser()), size, channels=channels, crop=crop)
        image = given if isinstance(given, Image.Image) else _image(given, channels)
        return square(image, size, channels=channels, crop=crop)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no image {given}") from error
    except Exception as error:  # no narrower type covers what decoders raise on damaged bytes
        known = UNKNOWN if isinstance(error, UnidentifiedImageError) else getattr(error, "strerror", None)
        name = given if is_path else f"image {index}"
        raise ValueError(f"{name} cannot be read: {known or str(error) or type(error).__name__}") from error


def _image(values: Any, channels: int) -> Image.Image:
    """An array or tensor as 8-bit grey or RGB."""
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    got = f"{values.dtype} {values.shape}"
    if values.dtype.kind == "f" and values.ndim in (2, 3) and values.size:
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{_EXPECTED}; got floats from {values.min()} to {values.max()}")
        values = (values * 255).round().astype(np.uint8)
    flat = values.ndim == 2
    if flat:
        values = values[..., None]
    elif values.ndim == 3 and values.shape[0] in _CHANNELS and values.shape[2] not in _CHANNELS:
        values = values.transpose(1, 2, 0)
    if values.dtype != np.uint8 or values.ndim != 3 or min(values.shape[:2]) < 4:
        raise ValueError(f"{_EXPECTED}; got {got}. Give a single image as [image].")
    if values.shape[2] != channels:
        one = ". Give a single image as [image]" if flat else ""
        raise ValueError(f"the network takes {channels} channels, got {got}; files and PIL images are converted{one}")
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if channels == 1 else values))


def as_list(images: Iterable[Any]) -> list[Any]:
    """A sequence of images, or an array whose first axis counts them, as a list."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image) or not isinstance(images, Iterable):
        raise ValueError(f"expected a sequence of images, got {type(images).__name__}; give a single one as [image]")
    if isinstance(images, np.ndarray | Tensor) and "float" in str(images.dtype):
        shape = tuple(images.shape)
        if len(shape) == 3 and shape[0] in _CHANNELS:
            raise ValueError(f"{shape} may be one image or {shape[0]}: give one as [image], several as (n, c, h, w)")
    pictures = list(images)
    if not pictures:
        raise ValueError("there are no images; give one or more")
    return pictures
