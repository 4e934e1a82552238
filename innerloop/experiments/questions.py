"""What a question is: a frozen value that names the runs it needs by their settings, and knows how it is answered.

Tables and figures that ask for the same run, or the same question, share it. The questions about few-shot networks are
in `experiments.few_shot`; a question of another kind is a frozen dataclass with the same four names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from innerloop.experiments.training import Run, as_json

if TYPE_CHECKING:
    from innerloop.experiments.lab import Lab


class Question(Protocol):
    """Something that can be found out about trained runs. Its fields are numbers, words, or settings of runs."""

    answers: ClassVar[type]
    """What an answer is: a dataclass or a msgspec.Struct of numbers, words, lists and dicts."""
    times_the_device: ClassVar[bool]
    """Whether the answer is about the device: then it is found when all else is done, and anew on another device."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """What must be trained first."""
        ...

    @property
    def subject(self) -> Run:
        """The settings of the network that it is about, or of its first; it need not be trained."""
        ...

    def answer(self, lab: Lab) -> Any:
        """Find the answer, a value of the type `answers`."""
        ...


def name_of(question: Question) -> str:
    """Such as accuracy-0123abcd: what the file with the answer is called. Fields at their defaults do not count."""
    kind = type(question).__name__.lower()
    text = json.dumps([kind, _set(question)], sort_keys=True)
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def described(question: Question) -> dict[str, Any]:
    """The question for JSON, with all settings of its runs."""
    values = {field.name: getattr(question, field.name) for field in fields(question)}  # pyright: ignore
    whole = {name: as_json(value) if hasattr(value, "key") else value for name, value in values.items()}
    return {"kind": type(question).__name__, **whole}


def _set(question: Question) -> dict[str, Any]:
    """Fields that differ from their defaults; a run is its key."""
    found: dict[str, Any] = {}
    for field in fields(question):  # pyright: ignore  a frozen dataclass, as the protocol says in words
        value = getattr(question, field.name)
        if field.default is MISSING or value != field.default:
            found[field.name] = getattr(value, "key", value)
    return found
