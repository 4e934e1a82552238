"""A contact sheet: what a data set looks like, before anything is trained on it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from innerloop.data.bank import Bank
from innerloop.tasks import Episodes

# All in pixels.
_MARGIN = 28  # around the sheet
_HEAD = 60  # the title and what is under it
_GAP = 6  # between two images
_LARGEST = 84  # the side of an image; small ones are enlarged to about two thirds of it
_LABEL = 320  # the longest a name gets
_INK, _PALE, _FRAME = "#1a1a1a", "#707070", "#d4d4d4"


def contact_sheet(bank: Bank, *, rows: int = 12, columns: int = 12, seed: int = 0) -> Image.Image:
    """Some classes of a bank, one a row in the bank's order: name, group, and some of the images.

    A bank of one channel on a black ground (Omniglot, glyphs) is shown as ink on paper, and the title says so.

    Raises:
        ValueError: `rows` or `columns` is below 1, or the items are no images.
    """
    white = _white(bank)
    if min(rows, columns) < 1:
        raise ValueError(f"a contact sheet needs at least one row and one column, got {rows} and {columns}")
    random = torch.Generator().manual_seed(seed)
    picked = _some(len(bank), rows, random)
    shown = [_bytes(bank.of_class(i)[_some(bank.sizes[i], columns, random)], white) for i in picked]
    inverted = _is_ink(shown)
    tiles = [[_tile(255 - image if inverted else image) for image in images] for images in shown]

    about = f"{len(picked)} of {len(bank):,} classes, {sum(bank.sizes):,} images of {bank.shape[2]} x {bank.shape[1]}"
    labels = [(bank.classes[i], bank.groups[i] if bank.groups[i] != bank.classes[i] else "") for i in picked]
    return _page(bank.name, about + (", shown inverted" if inverted else ""), labels, tiles)


def task_sheet(bank: Bank, episodes: Episodes, shot: int) -> Image.Image:
    """The first task of a batch from a bank: a label in each row, its support images, a gap, its query images.

    Raises:
        ValueError: the items are no images.
    """
    _white(bank)
    parts = [(episodes.support_x, episodes.support_y), (episodes.query_x, episodes.query_y)]
    ways = int(episodes.support_y[0].max()) + 1
    rows = [[x[0, y[0] == label].movedim(1, -1) for x, y in parts] for label in range(ways)]
    shown = [_bytes(torch.cat(row), 1) for row in rows]
    inverted = _is_ink(shown)
    tiles = [[_tile(255 - image if inverted else image) for image in images] for images in shown]
    about = f"{shot} to learn from on the left, {len(tiles[0]) - shot} to be tested on on the right"
    labels = [(str(label), "") for label in range(ways)]
    apart = [[*row[:shot], None, *row[shot:]] for row in tiles]  # an empty place between the two
    return _page(bank.name, about + (", shown inverted" if inverted else ""), labels, apart)


def as_html(line: str, sheet: Image.Image | None) -> str:
    """A line of text and a picture, for a notebook."""
    if sheet is None:
        return f"<p>{escape(line)}</p>"
    data = io.BytesIO()
    sheet.save(data, "PNG")
    picture = b64encode(data.getvalue()).decode()
    return f'<p>{escape(line)}</p><img alt="some of its images" src="data:image/png;base64,{picture}">'


def _white(bank: Bank) -> float:
    if bank.white is None:
        raise ValueError(f"{bank!r} holds no images to show; give images a white, such as Bank.of_images(x, labels)")
    return bank.white


def _bytes(images: Tensor, white: float) -> NDArray[np.uint8]:
    """Images (n, h, w, c) of any kind as 8 bits."""
    if images.dtype == torch.uint8 and white == 255:
        return images.cpu().numpy()
    return (images.cpu().float() * (255 / white)).round().clamp(0, 255).to(torch.uint8).numpy()


def _is_ink(shown: list[NDArray[np.uint8]]) -> bool:
    """Whether the images are of one channel on a black ground."""
    return shown[0].shape[-1] == 1 and float(np.median(np.concatenate(shown))) < 32


def font_file(name: str) -> str:
    """The path of one of matplotlib's fonts."""
    import matplotlib  # here, because few commands draw

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"))


def _page(
    title: str, about: str, labels: list[tuple[str, str]], tiles: Sequence[Sequence[Image.Image | None]]
) -> Image.Image:
    big, text, small = (ImageFont.truetype(font_file("DejaVuSans"), size) for size in (18, 13, 11))
    labels = [(_short(name, text), _short(group, small)) for name, group in labels]
    wide, high = (side + _GAP for side in next(filter(None, tiles[0])).size)
    left = round(2 * _MARGIN + max(max(text.getlength(name), small.getlength(group)) for name, group in labels))
    right = max(left + max(map(len, tiles)) * wide - _GAP, round(_MARGIN + text.getlength(about)))

    page = Image.new("RGB", (right + _MARGIN, _MARGIN + _HEAD + len(tiles) * high - _GAP + _MARGIN), "white")
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN), title, _INK, big, anchor="lt")
    pen.text((_MARGIN, _MARGIN + 28), about, _PALE, text, anchor="lt")
    for row, ((name, group), images) in enumerate(zip(labels, tiles, strict=True)):
        top = _MARGIN + _HEAD + row * high
        middle = top + (high - _GAP) / 2
        pen.text((_MARGIN, middle - (8 if group else 0)), name, _INK, text, anchor="lm")
        pen.text((_MARGIN, middle + 9), group, _PALE, small, anchor="lm")
        for column, image in enumerate(images):
            if image is None:
                continue
            x = left + column * wide
            pen.rectangle((x - 1, top - 1, x + image.width, top + image.height), outline=_FRAME)
            page.paste(image, (x, top))
    return page


def _some(count: int, at_most: int, random: torch.Generator) -> list[int]:
    return torch.randperm(count, generator=random)[:at_most].sort().values.tolist()


def _tile(pixels: NDArray[np.uint8]) -> Image.Image:
    """One image (h, w, c): small ones are enlarged by a whole number, so that every pixel shows."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    longer = max(image.size)
    if longer > _LARGEST:
        return image.resize([max(1, side * _LARGEST // longer) for side in image.size], Image.Resampling.BOX)
    zoom = max(1, round(_LARGEST * 2 / 3 / longer))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def _short(name: str, font: ImageFont.FreeTypeFont) -> str:
    """The name, or its end where it is too long for its place: paths differ in their ends."""
    if font.getlength(name) <= _LABEL:
        return name
    while font.getlength("…" + name) > _LABEL:
        name = name[1:]
    return "…" + name
