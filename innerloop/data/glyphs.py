"""Characters of many scripts as if drawn with a pen: the data set that needs no download.

A character of an open font is thinned to the path of a pen, the path is bent a little, and a pen of varying width
goes along it. Nothing is shipped: the fonts are the DejaVu fonts that come with matplotlib (free to use, embed and
change; derived from Bitstream Vera), and the drawings are made in seconds on the first use and kept in the cache.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from innerloop.data.cache import cached
from innerloop.data.splits import Splits
from innerloop.episodes import ImageBank

DRAWINGS = 20  # a class, as in Omniglot

# A script lies wholly in one split. Characters are taken in this order and one that looks like an earlier one is left
# out, so the small alphabets of the test stay whole and training gives up its look-alikes. A character belongs to the
# script that its Unicode name begins with.
SCRIPTS = {
    "test": ("Hebrew", "Georgian", "Arabic", "Tifinagh", "Nko", "Ogham"),
    "val": ("Armenian", "Lao"),
    "train": ("Digit", "Latin", "Greek", "Coptic", "Cyrillic", "Old Italic", "Lisu", "Canadian Syllabics"),
}

# Upright faces only: slant comes from the distortion, and a true italic draws some letters as other letters (Cyrillic
# te as m). The first face has every character, the others what they have.
_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")

_VERSION = 1  # part of the cache's key: raise it when a drawing changes
_SEED = 20
_FIELD = 64  # pixels a side of the pen paths; a row of one fits the 64 bits that `_thin` works on
_BOX = 48  # the longer side of every path within the field
_REACH = 8  # distances are exact up to here, in field pixels
_ALIKE = 5.5  # in field pixels; see `_distinct`


def glyphs(size: int = 28) -> Splits:
    """Over 1,000 characters, 20 drawings each, white ink on black, (n, size, size, 1); the test scripts are all new.

    Drawn from the DejaVu fonts of matplotlib, the same on every start with the same library versions. Classes are
    Unicode names, groups are scripts. Characters that look alike are one class (A, Alpha and Cyrillic A; c and C).
    Classes are not turned in episodes: turned characters collide (d and p, and most Canadian syllabics).
    """
    bank = cached(f"glyphs-v{_VERSION}-{size}", lambda: _generate(size))

    def part(name: str) -> ImageBank:
        chosen = [i for i, script in enumerate(bank.groups) if script in SCRIPTS[name]]
        return bank.choose(chosen, f"glyphs/{name}")

    return Splits(part("train"), part("val"), part("test"))


def _generate(size: int) -> ImageBank:
    faces = [_face(name) for name in _FACES]
    characters = _characters(faces[0][1])
    drawn = [(i, _ink(font, char)) for i, (char, _) in enumerate(characters) for font, has in faces if ord(char) in has]
    owner, paths = _fit(np.array([i for i, _ in drawn]), _thin(np.stack([ink for _, ink in drawn])))
    fields = torch.cat([_distance(part) for part in torch.from_numpy(paths).split(512)])
    kept = _distinct(owner, torch.from_numpy(paths), fields)
    order = torch.from_numpy(np.concatenate([np.resize(np.flatnonzero(owner == i), DRAWINGS) for i in kept]))
    random = torch.Generator().manual_seed(_SEED)
    images = torch.cat([_draw(fields[part], size, random) for part in order.split(1024)])
    chosen = [characters[i] for i in kept]
    names, groups = [unicodedata.name(char) for char, _ in chosen], [script for _, script in chosen]
    return ImageBank.stack(images.unsqueeze(-1), [DRAWINGS] * len(kept), names, groups, name="glyphs")


def _face(name: str) -> tuple[ImageFont.FreeTypeFont, set[int]]:
    """A font file of matplotlib's, and the code points it has; any other would draw the box for a missing one."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    path = str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"))
    font = ImageFont.truetype(path, 2 * _FIELD, layout_engine=ImageFont.Layout.BASIC)  # the same with and without raqm
    return font, set(FT2Font(path).get_charmap())


def _characters(available: set[int]) -> list[tuple[str, str]]:
    """The letters and digits of the scripts, each with its script, in the order of `SCRIPTS`.

    Characters that Unicode decomposes are left out: letters with an accent, which is a pixel or two at 28 x 28, and
    ligatures, superscripts and positional forms of other letters.
    """
    letters = [
        (char, unicodedata.name(char))
        for char in map(chr, sorted(available))
        if unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lo", "Nd") and not unicodedata.decomposition(char)
    ]
    scripts = [script for part in SCRIPTS.values() for script in part]
    return [(char, script) for script in scripts for char, name in letters if name.startswith(script.upper())]


def _ink(font: ImageFont.FreeTypeFont, char: str) -> NDArray[np.bool_]:
    """Where a character has ink, (h, w): as large as the field allows with a border of one pixel."""
    left, top, right, bottom = font.getbbox(char)
    page = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(page).text((-left, -top), char, fill=255, font=font)
    page = page.crop(page.getbbox())
    zoom = (_FIELD - 2) / max(page.size)
    wide, high = (max(1, round(side * zoom)) for side in page.size)
    x, y = (_FIELD - wide) // 2, (_FIELD - high) // 2
    field = np.zeros((_FIELD, _FIELD), bool)
    field[y : y + high, x : x + wide] = np.asarray(page.resize((wide, high), Image.Resampling.BILINEAR)) > 127
    return field


def _thin(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin strokes to lines one pixel wide, (n, h, 64), by the parallel algorithm of Zhang and Suen (1984).

    A row of pixels is one 64-bit number, so that each operation below treats 64 pixels at once.
    """
    rows = np.packbits(ink, axis=-1, bitorder="little").view("<u8")[..., 0]
    one, edge = np.uint64(1), ((0, 0), (1, 1))
    before = np.zeros_like(rows)
    while (rows != before).any():
        before = rows
        for first in (True, False):
            up, _, down = (np.pad(rows, edge)[:, i : i + rows.shape[1]] for i in range(3))
            east, west = rows >> one, rows << one
            around = [up, up >> one, east, down >> one, down, down << one, west, up << one]
            starts = [~a & b for a, b in zip(around, around[1:] + around[:1], strict=True)]
            ends = _exactly_one(around) | _exactly_one([~a for a in around])  # of a line, or inside a bay: stay
            sides = east & down & (up | west) if first else up & west & (east | down)
            rows = rows & ~(_exactly_one(starts) & ~ends & ~sides)
    return np.unpackbits(rows[..., None].view(np.uint8), axis=-1, bitorder="little").astype(bool)


def _exactly_one(bits: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    once = twice = np.zeros_like(bits[0])
    for bit in bits:
        once, twice = once | bit, twice | (once & bit)
    return once & ~twice


def _fit(owner: NDArray[np.int64], paths: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Centre the paths (n, h, w) and bring them to one size; half of what sets their shape off a square is taken back.

    So a narrow O and a wide one come close, and all fill the page as handwriting in boxes does. A path that is hardly
    more than a point (the Arabic zero is a dot) is left out.
    """
    n, *where = np.nonzero(paths)
    fitted, size = [], []
    for at, axis in zip(where, (2, 1), strict=True):
        filled = paths.any(axis)
        low, high = filled.argmax(1), _FIELD - filled[:, ::-1].argmax(1)
        fitted.append(at + 0.5 - ((low + high) / 2)[n])
        size.append(high - low)
    longer = np.maximum(*size)
    rows, columns = (
        (_FIELD / 2 + at * (_BOX / np.sqrt(longer * side))[n]).astype(int)
        for at, side in zip(fitted, size, strict=True)
    )
    out = np.zeros_like(paths)
    out[n, rows, columns] = True
    large = longer > _FIELD / 3
    return owner[large], out[large]


def _distance(paths: Tensor) -> Tensor:
    """How far each pixel is from the path, (n, h, w) in field pixels, `_REACH` at most."""
    field = torch.where(paths, 0.0, _REACH**2)
    for axis in (1, 2):
        length, padded = field.shape[axis], F.pad(field, [_REACH] * 4, value=_REACH**2)
        padded = padded.narrow(3 - axis, _REACH, length)
        field = torch.full_like(field, _REACH**2)
        for step in range(-_REACH, _REACH + 1):
            torch.minimum(field, padded.narrow(axis, _REACH + step, length) + step**2, out=field)
    return field.sqrt()


def _distinct(owner: NDArray[np.int64], paths: Tensor, fields: Tensor) -> list[int]:
    """The characters that look like no earlier one in any pair of faces.

    Two paths look alike where no point of either is farther than `_ALIKE` from the other.
    """
    touched = paths.any(0)
    points, far = paths[:, touched].float(), (fields[:, touched] > _ALIKE).float()
    apart = points @ far.T
    alike = ((apart + apart.T) == 0).numpy()
    characters, first = np.unique(owner, return_index=True)
    alike = np.logical_or.reduceat(np.logical_or.reduceat(alike, first, 0), first, 1)
    kept: list[int] = []
    for i in range(len(characters)):
        if not alike[i, kept].any():
            kept.append(i)
    return characters[kept].tolist()


def _draw(fields: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Bend each path, go along it with a pen, and photograph it: (n, size, size) uint8, ink 255."""
    n = len(fields)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=random) * (high - low) + low

    def waves(knots: int, channels: int) -> Tensor:
        noise = torch.randn(n, channels, knots, knots, generator=random)
        return F.interpolate(noise, (size, size), mode="bicubic", align_corners=True)

    # Everything below is in units of half a page: a page is [-1, 1] x [-1, 1], and so is a field.
    angle, slant, zoom = uniform(-0.2, 0.2), uniform(-0.35, 0.35), uniform(0.7, 1.05) * 20 / 28 * _FIELD / _BOX
    squeeze = uniform(-0.18, 0.18)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 2, 2)
    lean = torch.stack([squeeze.exp(), -slant, torch.zeros(n), (-squeeze).exp()], -1).view(n, 2, 2)
    onto = zoom.view(n, 1, 1) * (turn @ lean)

    near = fields < 1
    half = torch.stack([_extent(near.any(1)), _extent(near.any(2))], -1)  # half the width and the height of the path
    spread = (onto.abs() @ half.unsqueeze(-1)).squeeze(-1)
    room = 0.75
    shrink = (room / spread.amax(-1)).clamp(max=1)
    onto, spread = onto * shrink.view(n, 1, 1), spread * shrink.view(n, 1)
    shift = uniform(-1, 1, 2) * (room - spread).clamp(0, 0.2)

    bend = 0.05 * waves(4, 2) + 0.02 * waves(7, 2)
    steps = (torch.arange(size) + 0.5) * 2 / size - 1
    page = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)  # (size, size, 2): x, y
    at = page - shift.view(n, 1, 1, 2) - bend.permute(0, 2, 3, 1)
    at = at @ torch.linalg.inv(onto).mT.unsqueeze(1)
    away = F.grid_sample(fields.unsqueeze(1), at, mode="bilinear", padding_mode="border", align_corners=False)
    away = away * 28 / _FIELD * torch.linalg.det(onto).sqrt().view(n, 1, 1, 1)  # in pixels of a 28 x 28 page

    radius = uniform(0.6, 1.0, 1, 1, 1) * (1 + 0.12 * waves(4, 1))
    ink = ((radius - away) * size / 28 + 0.5).clamp(0, 1)
    return (ink[:, 0] * 255).round().to(torch.uint8)


def _extent(filled: Tensor) -> Tensor:
    """Half the length of what is filled, (n, m) to (n,), where m pixels are a length of 2."""
    from_centre = (torch.arange(filled.shape[1]) + 0.5) * 2 / filled.shape[1] - 1
    return (filled * from_centre.abs()).amax(1)
