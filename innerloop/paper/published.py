"""How the paper's numbers are written down here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from innerloop.experiments.exhibits import Place


def grid(rows: Sequence[str], columns: Sequence[str], numbers: str) -> dict[Place, tuple[float, float | None]]:
    """A number for every place, row after row: "46.9±0.2", "0.15" where the paper gives no spread, "-" for none."""
    found: dict[Place, tuple[float, float | None]] = {}
    for place, word in zip(product(rows, columns), numbers.split(), strict=True):
        if word != "-":
            mean, _, spread = word.partition("±")
            found[place] = float(mean), float(spread) if spread else None
    return found
