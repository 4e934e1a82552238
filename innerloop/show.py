"""What a notebook shows of a result: a small table, and a figure where matplotlib is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{body}</table>"


def figure(panels: int) -> tuple[Any, list[Any]]:
    """A matplotlib figure, which is not shown yet, and its axes, side by side."""
    from matplotlib.figure import Figure  # slow to load

    drawn = Figure(figsize=(4.2 * panels, 3.2), layout="constrained")
    return drawn, list(drawn.subplots(1, panels, squeeze=False)[0])
