"""How large a study is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How many seeds, on what problems, and what a number at this scale is worth."""

    name: str
    seeds: int
    about: str  # what its numbers are, in one sentence: it stands beside each of them
    problems: Mapping[str, Any]  # settings that the runs of a study start from, each a `Run`
    counts: Mapping[str, int] = field(default_factory=dict)  # such as the tasks that a similarity is averaged over
    judged: bool = True  # False: its numbers mean nothing, and no claim is judged on them
