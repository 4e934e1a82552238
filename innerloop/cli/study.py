"""innerloop study, and the options that innerloop paper shares with it"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes, Positional

Action = Literal["list", "plan", "run", "report"]


@dataclass(frozen=True)
class Options:
    """How a study is made, where, and on what."""

    scale: str | None = None
    """how large: a name that `list` shows. plan and run need it where there are several; report takes all that have
    results"""
    seeds: int | None = None
    """trainings of everything, with seeds 0, 1, ...; each scale has its own number"""
    store: Path | None = None
    """where runs and answers are kept; runs/NAME if not given"""
    out: Path | None = None
    """where report writes index.html, report.md and figures/; NAME-report if not given"""
    omniglot: str | None = None
    """where Omniglot lies; downloaded if not given"""
    mini_imagenet: str | None = None
    """where mini-ImageNet lies: a folder, or hf://owner/name on Hugging Face"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""
    workers: str = "1"
    """trainings at a time, each in a process of its own; auto: one a GPU, or one a core"""
    executor: Literal["local", "ray"] = "local"
    """where trainings run: on this machine, or on the Ray cluster at RAY_ADDRESS (needs the extra `scale`)"""


@dataclass(frozen=True)
class StudyCommand:
    """A study of your own, declared in a Python file: list what it shows, plan, run, and report."""

    file: Positional[Path]
    """with a Study called STUDY"""
    action: Positional[Action]
    what: Positional[tuple[str, ...]] = ()
    """such as table1 figure2; all if not given"""
    options: OmitArgPrefixes[Options] = field(default_factory=Options)

    def run(self) -> None:
        from innerloop.cli.study_actions import act
        from innerloop.experiments.study import load_study

        act(load_study(self.file), self.action, self.what, self.options)
