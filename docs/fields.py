"""Shows the comment behind a field, `steps: int = 5  # why`, as its description in the API pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Docstring, Extension

_COMMENT = re.compile(r"\s# (.+)$")


class Fields(Extension):
    """Called by mkdocstrings for each attribute it finds."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """A comment at the end of the field's last line is its docstring, where it has none."""
        if attr.docstring or attr.parent is None or not attr.parent.is_class or not attr.endlineno:
            return
        line = attr.lines_collection[attr.filepath][attr.endlineno - 1]
        if found := _COMMENT.search(line):
            attr.docstring = Docstring(found[1], parent=attr)
