"""The pages: their Python runs, their commands parse, and the functions they quote exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import innerloop
from innerloop.cli import main as cli

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SKIP = "<!-- not run -->"

page_of = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages, those after `SKIP` left out; Python at its own line numbers."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent, kind, code = match.groups()
        if kind in languages and not text[: match.start()].rstrip().endswith(SKIP):
            lines = "\n".join(line.removeprefix(indent) for line in code.splitlines())
            found.append("\n" * text[: match.start(3)].count("\n") + lines if kind == "python" else lines)
    return found


@pytest.fixture
def my_images(tmp_path, monkeypatch) -> Path:
    """32 classes of 20 small images, in the folder where the page runs."""
    random = np.random.default_rng(0)
    for label in range(32):
        folder = tmp_path / "my_images" / f"class{label:02}"
        folder.mkdir(parents=True)
        for i, pixels in enumerate(random.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)):
            Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(innerloop, "tune_cpu", lambda: None)  # it would change the tests' whole process
    monkeypatch.setattr("innerloop.device.tune_cpu", lambda: None)
    return tmp_path / "my_images"


@page_of
@pytest.mark.usefixtures("my_images")
def test_python_runs(page):
    """Block after block in one namespace, with the numbers of steps and episodes made small."""
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        small = re.sub(r"(\bcount=|\brange\()\d{2,}", r"\g<1>2", code)
        exec(compile(small, page, "exec"), names)  # what the page is for


@page_of
@pytest.mark.usefixtures("my_images")
def test_commands_parse(page, monkeypatch):
    """Every `innerloop ...` line is a command that exists, with options that exist."""
    ran = []
    for command in (listed.load() for listed in cli.COMMANDS.values()):
        monkeypatch.setattr(command, "run", lambda self: ran.append(self))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which main changes
    lines = "\n".join(blocks(page, "console", "bash", "sh")).splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    given = [command[1:] for command in words if command[:1] == ["innerloop"]]
    for arguments in given:
        monkeypatch.setattr(sys, "argv", ["innerloop", *arguments])
        cli.main()
    assert len(ran) == len(given)


@page_of
def test_quotes_exist(page):
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = page.read_text(encoding="utf-8")
    assert "<!-- source:" not in hooks.on_page_markdown(text)
    with pytest.raises(ValueError, match="has no nothing"):
        hooks.quote("innerloop/inner.py", "nothing")
