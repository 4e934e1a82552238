"""A study: what is asked, the tables and figures that answer it, the scales at which they are made."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from innerloop.experiments.exhibits import Exhibit
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.experiments.training import Run


def _no_settings(_: Run) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Study:
    """Many trainings that answer one question. Runs and answers are kept in a store, and shared by all that ask."""

    name: str  # shots: its store is runs/shots, its report shots-report
    title: str
    asks: str  # the question, in a sentence or two
    exhibits: tuple[Exhibit, ...]
    scales: tuple[Scale, ...]  # from small to large
    finds: Callable[[Mapping[str, Any]], str] | None = None
    """What was found, in a sentence: from the values of its exhibits by name, which are a table's means by place and a
    figure's `Panels`. KeyError: not enough runs."""
    settings: Callable[[Any], Mapping[str, str]] = _no_settings  # of a problem, that the report lists
    reproduces: str = ""  # a paper whose numbers and sentences the exhibits hold
    link: str = ""  # to it
    command: str = ""  # that lists, plans, runs and reports it

    def exhibit(self, name: str) -> Exhibit:
        """The table or figure of this name.

        Raises:
            ValueError: there is none.
        """
        found = {exhibit.name: exhibit for exhibit in self.exhibits}
        if name not in found:
            raise ValueError(f"there is no {name!r}. There are: {', '.join(found)}.")
        return found[name]

    def scale(self, name: str, seeds: int | None = None) -> Scale:
        """The scale of this name, with another number of seeds if one is given.

        Raises:
            ValueError: there is none.
        """
        found = {scale.name: scale for scale in self.scales}
        if name not in found:
            raise ValueError(f"there is no scale {name!r}. There are: {', '.join(found)}.")
        return replace(found[name], seeds=found[name].seeds if seeds is None else seeds)

    def only(self, names: Sequence[str]) -> Study:
        """The same with the exhibits of these names alone; with all, if none are given."""
        return replace(self, exhibits=tuple(map(self.exhibit, names))) if names else self

    def questions(self, scale: Scale) -> list[Question]:
        """What all exhibits ask at a scale, without repetition."""
        return list(dict.fromkeys(question for exhibit in self.exhibits for question in exhibit.questions(scale)))


def load_study(path: Path) -> Study:
    """The value STUDY of a Python file; its folder can be imported from afterwards, by other processes too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no STUDY.
    """
    path = path.expanduser()
    if path.suffix != ".py" or not path.is_file():
        raise FileNotFoundError(f"there is no Python file {path}: give one that has a Study called STUDY")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ValueError(f"{path} has the name of another module, {module.__file__}: rename it")
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"{path} has no STUDY: end it with STUDY = Study(...)")
    return replace(study, command=study.command or f"innerloop study {path}")
