"""Answers, kept: one JSON file a question in the folder `measured` of a store, beside the runs it was found on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import torch

from innerloop.experiments.lab import Lab
from innerloop.experiments.questions import Question, described, name_of
from innerloop.runs.checkpoint import write_whole

A = TypeVar("A")
_REASONS = "missing.json"


class Kept(msgspec.Struct, Generic[A], frozen=True):
    """An answer as its file holds it."""

    question: dict[str, Any]  # for people
    answer: A  # a value of the question's type `answers`
    device: str  # where it was found
    seconds: float  # that it took
    torch: str = ""  # version


class Damaged(ValueError):
    """A file of the store is not what was written there; the message names it, its field, and what to do."""


def find(question: Question, store: Path) -> Kept[Any] | None:
    """The answer that the store has; None if it has none.

    Raises:
        Damaged: the file is.
    """
    path = path_of(question, store)
    if not path.exists():
        return None
    advice = "Delete it and give the run command again: it is answered anew."
    return _decoded(path, Kept[question.answers], advice)


def find_or_why(question: Question, store: Path) -> Kept[Any] | str | None:
    """As `find`; in words where the file is damaged, so that one file does not hold up the others."""
    try:
        return find(question, store)
    except Damaged as damage:
        return str(damage)


def answer(question: Question, lab: Lab) -> Kept[Any]:
    """Find the answer on the runs of the lab's store, which must be there, and keep it.

    Raises:
        FileNotFoundError: a run is not trained.
        OSError: the store cannot be written.
    """
    begun, lab = time.monotonic(), lab.about(question.subject)
    found = question.answer(lab)
    seconds = round(time.monotonic() - begun, 1)
    kept = Kept(described(question), found, " and ".join(sorted(lab.found_on)), seconds, str(torch.__version__))
    write_whole(path_of(question, lab.store), msgspec.json.format(msgspec.json.encode(kept), indent=1))
    return kept


def path_of(question: Question, store: Path) -> Path:
    """Where the store keeps the answer."""
    return store / "measured" / f"{name_of(question)}.json"


def reasons(store: Path) -> dict[str, str]:
    """Why the last plan could not answer some questions, by their names.

    Raises:
        Damaged: the file is.
    """
    path = store / _REASONS
    if not path.exists():
        return {}
    return _decoded(path, dict[str, str], "Delete it: the next run command writes another.")


def keep_reasons(reasons: dict[str, str], store: Path) -> None:
    """For `reasons` to find."""
    write_whole(store / _REASONS, msgspec.json.format(msgspec.json.encode(reasons), indent=1))


def _decoded(path: Path, kind: Any, advice: str) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{path} is damaged ({error}). {advice}") from error
