"""What a run is made with, and does not depend on: the device, and where its images lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from innerloop.choices import Capture
from innerloop.data.files import HUB, whole_path


@dataclass(frozen=True)
class Compute:
    """On what a run is computed; none of it changes what is learnt."""

    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""
    capture: Capture = "auto"
    """on a GPU, auto runs a training step or a validation as one CUDA graph; off starts its kernels one by one"""


@dataclass(frozen=True)
class Source:
    """Where a data set lies, and what is done about what is wrong with it."""

    source: str | None = None
    """where omniglot or mini-imagenet lies: a folder; for mini-imagenet also hf://owner/name on Hugging Face. A run
    remembers it"""
    skip_bad: bool = False
    """leave damaged images and small classes of a folder out"""

    def or_where_it_was(self, metadata: Mapping[str, Any]) -> Source:
        """With the place that a checkpoint remembers, if none is given and it is still there."""
        known: str | None = metadata.get("source")
        there = known is not None and (known.startswith(HUB) or Path(known).exists())
        return replace(self, source=known) if self.source is None and there else self

    def wherever_one_is(self) -> str | None:
        """The place as it can be found from any folder."""
        return None if self.source is None else whole_path(self.source)
