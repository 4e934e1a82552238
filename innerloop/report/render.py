"""The two templates, with what they may call. What they are given is escaped, in HTML and in Markdown alike."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from innerloop.experiments.exhibits import Table
from innerloop.report import format as words

_NAME = "innerloop.report"


def rendered(template: str, **values: Any) -> str:
    """A template of the folder `templates` with these values."""
    html = template.endswith(".html")
    text = _environment(html).get_template(f"{template}.jinja").render(values).strip() + "\n"
    return text if html else re.sub(r"\n{3,}", "\n\n", text)


@cache
def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader(_NAME),
        autoescape=html,
        finalize=None if html else _plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"words": words, "is_table": lambda exhibit: isinstance(exhibit, Table)}
    environment.tests["short"] = words.short
    environment.filters |= {"breakable": breakable, "verbatim": Markup, "row": markdown_row}
    return environment


def _plain(value: Any) -> Any:
    return value if isinstance(value, Markup) else plain(str(value))


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = " ".join(text.replace("&", "&amp;").split())
    return re.sub(r"([\\`*_\[\]<>|~$#])", r"\\\1", text)


def markdown_row(words: list[str]) -> Markup:
    """A row of a Markdown table."""
    return Markup(f"| {' | '.join(map(plain, words))} |")


def breakable(name: str) -> Markup:
    """For HTML: a long name may break after its hyphens and slashes."""
    return Markup(re.sub(r"([-/_,])(?=\S)", r"\1<wbr>", str(escape(name))))
