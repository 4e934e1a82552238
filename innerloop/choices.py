"""What options may be, as types, and the nearest of several names: importing this loads no other library."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

Statistics = Literal["query", "support", "image"]
"""Whose statistics normalise a query image: see `innerloop.norm`."""

HeadStart = Literal["learnt", "zero", "shared", "prototypes"]
"""What the head starts from in each task: see `innerloop.head_start`."""

Capture = Literal["auto", "off"]
"""Whether a step runs as one CUDA graph: see `innerloop.parallel.captured`."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question about the nearest of `names`, to stand behind a message; empty where none is near.

    >>> did_you_mean("omniglto", ["glyphs", "omniglot"])
    " Did you mean 'omniglot'?"
    """
    near = get_close_matches(name, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
