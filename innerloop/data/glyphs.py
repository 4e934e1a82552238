"""Characters of many scripts as if drawn with a pen: the data set that needs no download.

All drawings ship in one sheet, so that they are the same bits everywhere; `tools/make_glyphs.py` drew it.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from innerloop.data.bank import Bank
from innerloop.data.splits import Splits

SHEET = Path(__file__).with_name("glyphs.png")
SIDE = 28  # pixels a side of a drawing on the sheet
COLUMNS = 60  # drawings in a row of the sheet; they lie class after class
DRAWINGS = 20  # a class, as in Omniglot
SCRIPTS = {  # a script lies wholly in one part
    "train": ("Digit", "Latin", "Greek", "Coptic", "Cyrillic", "Old Italic", "Lisu", "Canadian Syllabics"),
    "val": ("Armenian", "Lao"),
    "test": ("Hebrew", "Georgian", "Arabic", "Tifinagh", "Nko", "Ogham"),
}
_SHA256 = "091ad425bbbb1829a908246e51df23f15a19d1802f3da6fc2fdf0390fcb924bc"


def glyphs(size: int = SIDE) -> Splits:
    """Over 1,000 characters, 20 drawings each, white ink on black, (n, size, size, 1); the test scripts are all new.

    Made from the DejaVu fonts, at 28 pixels a side; other sizes are resized from these. Classes are Unicode names,
    groups are scripts. Characters that look alike are one class (A, Alpha and Cyrillic A; c and C). Classes are not
    turned in episodes: turned characters collide (d and p, and most Canadian syllabics).

    Raises:
        ValueError: `size` is too small to show a character, or the installed sheet is damaged.
    """
    if size < 12:
        raise ValueError(f"glyphs needs at least 12 pixels a side to show a character, got size={size}; try 28")
    bank = _bank(size)
    parts = {part: [i for i, script in enumerate(bank.groups) if script in SCRIPTS[part]] for part in Splits._fields}
    return Splits(**{part: bank.choose(chosen, f"glyphs/{part}") for part, chosen in parts.items()})


@cache
def _bank(size: int) -> Bank:
    drawings, classes = _sheet()
    if size != SIDE:
        shape, kind = (size, size), Image.Resampling.LANCZOS
        drawings = np.stack([np.asarray(Image.fromarray(drawing).resize(shape, kind)) for drawing in drawings])
    names, scripts = zip(*classes, strict=True)
    return Bank.stack(
        torch.from_numpy(drawings[..., None]), [DRAWINGS] * len(names), names, scripts, name="glyphs", white=255
    )


def _sheet() -> tuple[np.ndarray, list[tuple[str, str]]]:
    """The drawings, (n, 28, 28) uint8, and the name and script of each class."""
    data = SHEET.read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise ValueError(f"{SHEET} is damaged: install innerloop again")
    with Image.open(io.BytesIO(data)) as sheet:
        pixels = np.asarray(sheet).reshape(-1, SIDE, COLUMNS, SIDE).swapaxes(1, 2)
        return np.ascontiguousarray(pixels).reshape(-1, SIDE, SIDE), json.loads(sheet.info["classes"])
