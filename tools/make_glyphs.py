"""Draw the sheet of glyphs that ships with the package: python -m tools.make_glyphs SHEET.png

A character of an open font is thinned to the path of a pen, the path is bent, and a pen of varying width goes along
it. The fonts are DejaVu, which come with matplotlib and are free to use, embed and change. Other versions of FreeType,
matplotlib or torch draw other pixels, and every recorded number was made with the sheet as it is: draw a new one only
as a new data set, and pin its hash in `innerloop/data/glyphs.py`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import torch
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from innerloop.data.contact_sheet import font_file
from innerloop.data.glyphs import COLUMNS, DRAWINGS, SCRIPTS, SIDE
from tools.pen import FIELD, distance, draw, fit, thin

# Characters are taken in this order and one that looks like an earlier one is left out, so training gives up what looks
# like the test. A character belongs to the script that its Unicode name begins with.
_ORDER = ("test", "val", "train")

# Upright faces only: slant comes from the distortion, and a true italic draws some letters as other letters (Cyrillic
# te as m); and no bold ones, whose small loops (Lao) fill up. The first has every character, the others what they have.
_FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")

_SEED = 20
_ALIKE, _ALIKE_ACROSS = 6.0, 7.0  # in pixels of a field, in one split and in two; see `_distinct`
_TWINS = ("ვ3ᴈ", "٤ɛεԑƸ", "סꓓ", "ႺG", "٩ᑵ")  # the first of each looks like the others, farther apart though they are


def drawings(size: int = SIDE) -> tuple[Tensor, list[str], list[str]]:
    """All drawings (n, size, size) uint8, `DRAWINGS` for each class, and the name and script of each class."""
    faces = [_face(name) for name in _FACES]
    characters = _characters(faces[0][1])
    drawn = [(i, _ink(font, char)) for i, (char, _) in enumerate(characters) for font, has in faces if ord(char) in has]
    owner, paths = fit(np.array([i for i, _ in drawn]), thin(np.stack([ink for _, ink in drawn])))
    fields = torch.cat([distance(part) for part in torch.from_numpy(paths).split(512)])
    parts = {script: part for part in _ORDER for script in SCRIPTS[part]}
    kept = _distinct(owner, [parts[script] for _, script in characters], torch.from_numpy(paths), fields)
    twins = {other for pair in _TWINS for other in pair[1:]}
    kept = [i for i in kept if characters[i][0] not in twins]
    order = torch.from_numpy(np.concatenate([np.resize(np.flatnonzero(owner == i), DRAWINGS) for i in kept]))
    random = torch.Generator().manual_seed(_SEED)
    images = torch.cat([draw(fields[part], size, random) for part in order.split(1024)])
    names, groups = [unicodedata.name(characters[i][0]) for i in kept], [characters[i][1] for i in kept]
    return images, names, groups


def write(path: Path) -> str:
    """Write the sheet, a class after the other, and say its SHA-256."""
    images, names, groups = drawings()
    rows = images.view(-1, COLUMNS, SIDE, SIDE).transpose(1, 2).reshape(-1, COLUMNS * SIDE)
    about = PngInfo()
    about.add_text("classes", json.dumps(list(zip(names, groups, strict=True))), zip=True)
    Image.fromarray(rows.numpy()).save(path, "PNG", pnginfo=about, optimize=True)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _face(name: str) -> tuple[ImageFont.FreeTypeFont, set[int]]:
    """A font, and the code points it has; for any other it would draw the box that means "missing"."""
    path = font_file(name)
    font = ImageFont.truetype(path, 2 * FIELD, layout_engine=ImageFont.Layout.BASIC)  # the same with and without raqm
    return font, set(FT2Font(path).get_charmap())


def _characters(available: set[int]) -> list[tuple[str, str]]:
    """The letters and digits of the scripts, each with its script, in their order.

    Characters that Unicode decomposes are left out: letters with an accent, which is a pixel or two at 28 x 28, and
    ligatures, superscripts and positional forms of other letters.
    """
    letters = [
        (char, unicodedata.name(char))
        for char in map(chr, sorted(available))
        if unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lo", "Nd") and not unicodedata.decomposition(char)
    ]
    scripts = [script for part in _ORDER for script in SCRIPTS[part]]
    return [(char, script) for script in scripts for char, name in letters if name.startswith(script.upper())]


def _ink(font: ImageFont.FreeTypeFont, char: str) -> NDArray[np.bool_]:
    """Where a character has ink, (h, w): as large as the field allows with a border of one pixel."""
    left, top, right, bottom = font.getbbox(char)
    page = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(page).text((-left, -top), char, fill=255, font=font)
    page = page.crop(page.getbbox())
    zoom = (FIELD - 2) / max(page.size)
    wide, high = (max(1, round(side * zoom)) for side in page.size)
    x, y = (FIELD - wide) // 2, (FIELD - high) // 2
    field = np.zeros((FIELD, FIELD), bool)
    field[y : y + high, x : x + wide] = np.asarray(page.resize((wide, high), Image.Resampling.BILINEAR)) > 127
    return field


def _distinct(owner: NDArray[np.int64], parts: list[str], paths: Tensor, fields: Tensor) -> list[int]:
    """The characters that look like no earlier one in any pair of faces.

    How far the farthest point of either path is from the other path tells two of them apart; 2.3 pixels of the field
    are one of a 28 x 28 page. Among measures tried (also the mean and higher moments of that distance, correlation of
    blurred ink) this one best keeps a dot or a tail that is plain to see. The limits come from looking at the pairs at
    each distance: up to 6 most are the same to the eye (O and D, K and kappa), from 6.25 on most can be told apart, if
    only by a dot. Between two splits, where a look-alike would be a class to test that was trained on, the limit is 7
    (a cross with and without serifs is at 6.1, pe and a Lisu letter at 7).
    """
    touched = paths.any(0)
    points = paths[:, touched].float()
    characters, first = np.unique(owner, return_index=True)

    def alike(limit: float) -> NDArray[np.bool_]:
        apart = points @ (fields[:, touched] > limit).float().T
        pairs = ((apart + apart.T) == 0).numpy()
        return np.logical_or.reduceat(np.logical_or.reduceat(pairs, first, 0), first, 1)

    part = np.array([parts[i] for i in characters])
    found = np.where(part[:, None] == part, alike(_ALIKE), alike(_ALIKE_ACROSS))
    kept: list[int] = []
    for i in range(len(characters)):
        kept += [] if found[i, kept].any() else [i]
    return characters[kept].tolist()


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
