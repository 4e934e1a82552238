"""One colour for every meaning, the same in all figures, told apart with the common kinds of colour blindness too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

MEANING = {
    "first-order maml": "#7fb9e6",
    "first order maml": "#7fb9e6",
    "fomaml": "#7fb9e6",
    "maml": "#3b6fb6",
    "anil": "#d9822b",
    "nil": "#3f8f5f",
    "random": "#9aa3ad",
    "multiclass": "#b54a8c",
    "multitask": "#6b4a2f",
    "miniimagenet-5way-1shot": "#2f3e63",
    "miniimagenet-5way-5shot": "#2a8c9a",
    "omniglot-20way-1shot": "#8fb339",
    "omniglot-20way-5shot": "#e0a100",
}
"""By how a label begins, in lower case; the first that fits counts."""
FIRST, LATER = "#cfd4da", ("#c3b0dc", "#9270c2", "#5a3a8a")
"""Of iteration 0, and of later iterations in their order: darker with training."""
ORDERED = ("#7d5ba6", "#c8553d", "#858d96", "#4f7f86")
"""For labels without a meaning of their own, in the order of a panel."""
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GREY, GRID, CARD = "#23272e", "#8a929c", "#e6e8eb", "#ffffff"


def colours(labels: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The colour of every label of a panel, and how many labels before it have the same one."""
    found: dict[str, tuple[str, int]] = {}
    used: dict[str, int] = {}
    later, others = cycle(LATER), cycle(ORDERED)
    for label in dict.fromkeys(labels):
        colour = next((colour for start, colour in MEANING.items() if label.lower().startswith(start)), None)
        if label == "iteration 0":
            colour = FIRST
        elif colour is None:
            colour = next(later if label.startswith("iteration ") else others)
        found[label] = colour, used.get(colour, 0)
        used[colour] = used.get(colour, 0) + 1
    return found


def tint(colour: str, times: int) -> str:
    """The colour, lighter with every time that it was used before: for bars, which have no line style."""
    share = (1.0, 0.62, 0.4, 0.25)[min(times, 3)]
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in parts)
