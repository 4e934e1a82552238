"""Who or what each image of a folder shows, by the name of its file or by a table: see `Bank.subjects`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from innerloop.data.files import listed
from innerloop.data.tables import rows_of

_EXPECTED = (
    'a template such as "{group}_*", a regular expression with one group such as "^(.+)_", or a csv table with the '
    "columns file and group"
)
_TABLES = (".csv", ".tsv")


def groups_of(files: Sequence[str], group_by: Path | str) -> list[str]:
    """The group of each file, given as class/name; files with one group show the same, in whatever class they lie.

    Args:
        files: their names.
        group_by: a template for the name of a file, or for class/name where it has a slash, in which `{group}` is the
            group and `*` anything; or a regular expression with one group, looked for in class/name; or the path of a
            csv table with the columns file (class/name, or the name where only one class has it) and group.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it is none of these, or files have no group, which are named.
    """
    text = str(group_by)
    found = _by_table(files, Path(text)) if text.lower().endswith(_TABLES) else _by_pattern(files, text)
    if lost := [file for file, group in zip(files, found, strict=True) if group is None]:
        few = f"{len(lost)} of the {len(files)} images no group, such as {listed(lost, 3)}"
        raise ValueError(f"{text!r} gives {few}; give {_EXPECTED}")
    return [group or "" for group in found]


def sequences(files: Sequence[str]) -> str | None:
    """A group of files that looks like the frames of one film, if the names of most classes look like several films.

    That is where names differ by the number at their end alone, and there are several such groups in a class.
    """
    classes: dict[str, Counter[str]] = {}
    for file in files:
        label, _, name = file.rpartition("/")
        stem = re.sub(r"\.[^.]*$", "", name)
        classes.setdefault(label, Counter())[re.sub(r"[-_. ]?\d+$", "", stem)] += 1
    films = [films for films in classes.values() if len(films) > 1 and films.total() >= 3 * len(films)]
    if not films or 2 * len(films) < len(classes):
        return None
    label = next(label for label, counts in classes.items() if counts is films[0])
    return f"{label}/{films[0].most_common(1)[0][0]}"


def _by_pattern(files: Sequence[str], text: str) -> list[str | None]:
    whole = "{group}" not in text or "/" in text
    if "{group}" in text:
        head, *tails = (".*".join(map(re.escape, part.split("*"))) for part in text.split("{group}"))
        pattern = re.compile(f"^{head}(.+?){'(?:.+?)'.join(tails)}$", re.DOTALL)
    else:
        try:
            pattern = re.compile(text, re.DOTALL)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression ({error}); give {_EXPECTED}") from error
        if pattern.groups != 1:
            raise ValueError(f"{text!r} has {pattern.groups} groups in round brackets, not one; give {_EXPECTED}")
    matches = [pattern.search(file if whole else file.rpartition("/")[2]) for file in files]
    return [match[1] if match else None for match in matches]


def _by_table(files: Sequence[str], path: Path) -> list[str | None]:
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}; give {_EXPECTED}")
    table = {row[0]: row[1] for row in rows_of(path, ("file", "group"), f"give {_EXPECTED}")}
    often = Counter(file.rpartition("/")[2] for file in files)
    names = {file: name if often[name := file.rpartition("/")[2]] == 1 else file for file in files}
    return [table.get(file) or table.get(names[file]) or None for file in files]
