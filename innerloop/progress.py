"""A bar on a terminal, and nothing elsewhere: on stderr, so that stdout holds results alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def silent() -> bool:
    """Whether --quiet was given."""
    return bool(os.environ.get("INNERLOOP_QUIET"))


def on_terminal() -> bool:
    """Whether a bar has someone to look at it."""
    return sys.stderr.isatty() and not silent()


def watched(items: Iterable[T], title: str, asked: bool = True) -> Iterable[T]:
    """The same items, with a bar while they are gone through, which then goes away; none unless it is asked for."""
    if not (asked and on_terminal()):
        return items
    return track(items, title, console=Console(stderr=True), transient=True)
