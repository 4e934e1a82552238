"""A split that stands in a file: which classes of a folder are to train on, to validate and to test."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from unicodedata import normalize

from innerloop.data.bank import Bank
from innerloop.data.files import listed
from innerloop.data.splits import Splits
from innerloop.data.tables import rows_of, text_of

_EXPECTED = 'expected csv with the columns class and split, or JSON {"train": [...], "val": [...], "test": [...]}'


def read_split(path: Path) -> dict[str, list[str]]:
    """The classes of each part, from csv or JSON.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no split.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no split file {path}")
    parts = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    if set(parts) != set(Splits._fields):
        raise ValueError(f"{path} names the parts {listed(sorted(parts)) or 'none'}; {_EXPECTED}")
    return parts


def _from_json(path: Path) -> dict[str, list[str]]:
    try:
        parts = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); {_EXPECTED}") from error
    if not isinstance(parts, dict) or not all(isinstance(labels, list) for labels in parts.values()):
        raise ValueError(f"{path} holds no lists of classes; {_EXPECTED}")
    return {part: [str(label) for label in labels] for part, labels in parts.items()}


def _from_csv(path: Path) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for label, part in rows_of(path, ("class", "split"), _EXPECTED):
        parts.setdefault(part, []).append(label)
    return parts


def chosen(bank: Bank, parts: dict[str, list[str]]) -> Splits:
    """The banks of these classes; an accent may be written as one character or as two.

    Raises:
        ValueError: the bank lacks some of them, a part is empty, or a class is in two.
    """
    at = {normalize("NFC", label): i for i, label in enumerate(bank.classes)}
    wanted = {part: [normalize("NFC", label) for label in labels] for part, labels in parts.items()}
    labels = [label for part in wanted.values() for label in part]
    if unknown := [label for label in labels if label not in at]:
        raise ValueError(f"the split names classes that {bank.name} lacks or that were left out: {listed(unknown)}")
    if twice := repeated(labels):
        raise ValueError(f"the split names classes twice: {listed(twice)}; a class belongs to one part")
    if empty := [part for part in Splits._fields if not wanted[part]]:
        raise ValueError(f"the {' and '.join(empty)} part of {bank.name} is empty; give it at least one class")
    named = {part: sorted(at[label] for label in wanted[part]) for part in Splits._fields}
    return Splits(*(bank.choose(indices, f"{bank.name}/{part}") for part, indices in named.items()))


def repeated(labels: list[str]) -> list[str]:
    """The labels that stand in the list more than once."""
    return [label for label, count in Counter(labels).items() if count > 1]
