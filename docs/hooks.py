"""What the pages take from elsewhere, so that it cannot go stale.

A line `<!-- source: FILE NAME -->` becomes the code of that function or class, `<!-- help: COMMAND -->` what
`innerloop COMMAND --help` prints, and the folder `results/` stands among the pages as it is.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]

_QUOTE = re.compile(r"^<!-- source: (\S+) (\S+) -->$", re.MULTILINE)
_HELP = re.compile(r"^<!-- help: ?(.*?) -->$", re.MULTILINE)
_SHOWN = {".md", ".svg", ".png", ".json"}  # of results/
_Named = ast.FunctionDef | ast.ClassDef


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    markdown = _QUOTE.sub(lambda match: quote(*match.groups()), markdown)
    return _HELP.sub(lambda match: help_of(match[1]), markdown)


def on_files(files: Any, *, config: Any) -> Any:
    """Called by mkdocs with the files of the site."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in _SHOWN and "measured" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def help_of(command: str) -> str:
    """A fenced block with what `innerloop COMMAND --help` prints, 100 letters wide.

    Raises:
        ValueError: there is no such command.
    """
    words = [sys.executable, "-m", "innerloop", *command.split(), "--help"]
    wide = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    shown = subprocess.run(words, capture_output=True, text=True, env=wide, cwd=ROOT, check=False)
    if shown.returncode:
        raise ValueError(f"innerloop {command} --help ended with {shown.returncode}: {shown.stderr.strip()}")
    return f"```text\n{shown.stdout.strip()}\n```"


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
