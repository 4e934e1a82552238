"""Quotes the source in the pages: a line `<!-- source: FILE NAME -->` becomes the code of that function or class."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]

_QUOTE = re.compile(r"^<!-- source: (\S+) (\S+) -->$", re.MULTILINE)
_Named = ast.FunctionDef | ast.ClassDef


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return _QUOTE.sub(lambda match: quote(*match.groups()), markdown)


def quote(file: str, name: str) -> str:
    """A fenced block with the code of `name`, such as predict or predict.one_task.

    Raises:
        ValueError: the file has no such function or class.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in name.split("."):
        found = [child for child in node.body if isinstance(child, _Named) and child.name == part]
        if not found:
            raise ValueError(f"{file} has no {name}, which a page quotes; mend the page")
        node = found[0]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    code = dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return f'```{{.python title="{file}" linenums="{first}"}}\n{code}\n```'
