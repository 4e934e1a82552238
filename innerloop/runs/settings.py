"""Settings as nested frozen dataclasses, flat wherever people meet them: flags, files, messages, names of runs.

No two settings of one value have the same name, so that each is known by its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgspec

SCHEMA = 1
"""Raise it where the meaning or the default of a setting changes: runs of another schema are other runs."""

T = TypeVar("T")


def flat(settings: Any) -> dict[str, Any]:
    """Every setting by its name."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        found |= flat(value) if is_dataclass(value) else {field.name: value}
    return found


def where(settings: T, **changes: Any) -> T:
    """The same settings with some of them changed, by their names, wherever they are nested.

    Raises:
        ValueError: there is no such setting, or it takes no such value.
    """
    if unknown := sorted(changes.keys() - flat(settings).keys()):
        raise ValueError(f"there is no setting {', '.join(unknown)}; there are {', '.join(flat(settings))}")
    try:
        return msgspec.convert(_nested(settings, changes), type(settings))
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ValueError):  # what the settings themselves say
            raise error.__cause__ from None
        what, _, place = str(error).rpartition(" - at ")
        raise ValueError(f"{place.strip('`').rpartition('.')[2]}: {what[0].lower()}{what[1:]}") from None


def _nested(settings: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        name: _nested(value, changes) if is_dataclass(value) else changes.get(name, value)
        for name, value in values.items()
    }


def as_json(settings: Any) -> dict[str, Any]:
    """What differs from the defaults, by name, and the schema: the same for the same settings, as JSON holds it.

    A setting that is added later, with a default that does what was done without it, changes nothing in it.
    """
    defaults = flat(type(settings)())
    changed = {name: value for name, value in flat(settings).items() if value != defaults[name]}
    return json.loads(json.dumps({"schema": SCHEMA, **changed}))


def from_json(values: Any, defaults: T) -> T:
    """Back from `as_json`, given the defaults.

    Raises:
        ValueError: it is of another schema, a setting is unknown, or a value is of another type.
    """
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        there = f"schema {values.get('schema')}" if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"settings of another version of innerloop ({there}, expected schema {SCHEMA})")
    there = {name: value for name, value in values.items() if name != "schema"}
    if unknown := sorted(there.keys() - flat(defaults).keys()):
        raise ValueError(f"unknown settings {', '.join(unknown)}: written by another version of innerloop")
    return where(defaults, **there)


def digest(values: Any) -> str:
    """Eight hexadecimal digits that name JSON."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def at_least(least: int, settings: Any, *names: str) -> None:
    """Refuse settings below `least`, 0 or 1, which may be None.

    Raises:
        ValueError: one is.
    """
    said = "must be at least 1" if least else "must not be negative"
    for name in names:
        if (value := getattr(settings, name)) is not None and value < least:
            raise ValueError(f"{name} {said}, got {value}")


def above_zero(settings: Any, *names: str) -> None:
    """Refuse settings that are not above 0, which may be None.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if (value := getattr(settings, name)) is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
