"""Tables in files: comma or tab separated, with a head."""

from __future__ import annotations

import csv
from pathlib import Path

from innerloop.data.files import listed


def text_of(path: Path) -> str:
    """The text in a file, with or without a byte order mark.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error


def rows_of(path: Path, columns: tuple[str, ...], expected: str) -> list[tuple[str, ...]]:
    """These columns of a table, row after row; `.tsv` is separated by tabs, anything else by commas.

    Raises:
        ValueError: it is no table, or lacks one of the columns, or a row is too short; `expected` says what is right.
    """
    reader = csv.DictReader(text_of(path).splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        if not {*columns} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} has the columns {listed(reader.fieldnames or ['none'])}; {expected}")
        rows = [tuple(row[column] for column in columns) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path} is no table ({error}); {expected}") from error
    if short := [i for i, row in enumerate(rows) if None in row]:
        raise ValueError(f"{path} has too few columns in row {short[0] + 2}; {expected}")
    return rows
