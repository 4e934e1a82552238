"""A contact sheet: what a data set looks like, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from innerloop.data.episodes import ImageBank

# All in pixels.
_MARGIN = 28  # around the sheet
_HEAD = 60  # the title and what is under it
_GAP = 6  # between two images
_LARGEST = 84  # the side of an image; small ones are enlarged to about two thirds of it
_LABEL = 320  # the longest a name gets
_INK, _PALE, _FRAME = "#1a1a1a", "#707070", "#d4d4d4"


def contact_sheet(bank: ImageBank, *, rows: int = 12, columns: int = 12, seed: int = 0) -> Image.Image:
    """Some classes of a bank, one a row in the bank's order: name, group, and some of the images.

    A bank of one channel on a black ground (Omniglot, glyphs) is shown as ink on paper, and the title says so.

    Raises:
        ValueError: `rows` or `columns` is below 1.
    """
    if min(rows, columns) < 1:
        raise ValueError(f"a contact sheet needs at least one row and one column, got {rows} and {columns}")
    random = torch.Generator().manual_seed(seed)
    picked = _some(len(bank), rows, random)
    shown = [bank.of_class(i)[_some(bank.sizes[i], columns, random)].cpu().numpy() for i in picked]
    inverted = bank.images.shape[-1] == 1 and float(np.median(np.concatenate(shown))) < 32
    tiles = [[_tile(255 - image if inverted else image) for image in images] for images in shown]

    about = f"{len(picked)} of {len(bank):,} classes, {sum(bank.sizes):,} images of {bank.shape[2]} x {bank.shape[1]}"
    labels = [(bank.classes[i], bank.groups[i] if bank.groups[i] != bank.classes[i] else "") for i in picked]
    return _page(bank.name, about + (", shown inverted" if inverted else ""), labels, tiles)


def font_file(name: str) -> str:
    """The path of one of matplotlib's fonts."""
    import matplotlib  # here, because few commands draw

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"))


def _page(title: str, about: str, labels: list[tuple[str, str]], tiles: list[list[Image.Image]]) -> Image.Image:
    big, text, small = (ImageFont.truetype(font_file("DejaVuSans"), size) for size in (18, 13, 11))
    labels = [(_short(name, text), _short(group, small)) for name, group in labels]
    wide, high = (side + _GAP for side in tiles[0][0].size)
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
