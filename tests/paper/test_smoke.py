"""Everything that the paper has, end to end as a user makes it, at the smallest scale: the slowest test there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tiny import call

from innerloop.experiments.answers import find
from innerloop.experiments.exhibits import Table
from innerloop.paper import STUDY
from innerloop.paper.scales import SCALES
from innerloop.report.collect import collect
from innerloop.report.format import heading

TABLES = [exhibit.name for exhibit in STUDY.exhibits if isinstance(exhibit, Table)]
FIGURES = [exhibit.name for exhibit in STUDY.exhibits if exhibit.name not in TABLES]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.slow
def test_every_table_and_figure_is_made_and_shown(place, monkeypatch):
    monkeypatch.chdir(place)
    run = ("paper", "run", "--scale", "smoke", "--device", "cpu")
    first = call(*run)
    assert first.code == 0, first.err
    assert "44 of the 44 runs they need are left" in first.err
    again = call(*run)
    assert again.code == 0
    assert len(again.err.splitlines()) == 2, "there is nothing left to do"

    store, scale = Path("runs/paper"), SCALES["smoke"]
    for exhibit in STUDY.exhibits:
        made = collect(exhibit, scale, lambda question: find(question, store), {})
        assert made.found == made.needed > 0
        assert made.verdicts == (), "its numbers mean nothing"
        assert bool(made.panels) == (exhibit.name in FIGURES)

    assert call("paper", "report").out == "report: paper-report/index.html\n"
    page, markdown = ((place / "paper-report" / name).read_text() for name in ("index.html", "report.md"))
    for exhibit in STUDY.exhibits:
        assert heading(exhibit) in markdown
        assert f'href="#{exhibit.name}"' in page
        assert f'id="{exhibit.name}"' in page
    assert "not measured yet" not in page
    assert "holds<" not in page
    assert page.count("<img ") >= len(FIGURES)
    pictures = {path.name for path in (place / "paper-report" / "figures").iterdir()}
    assert pictures == {f"{name}-smoke.svg" for name in FIGURES}


@pytest.mark.slow
def test_the_page_opens_in_a_browser(place):
    """Its tables and figures are there, and nothing is complained about."""
    browser, path = shutil.which("chromium"), place / "paper-report" / "index.html"
    if browser is None:
        pytest.skip("needs chromium on the PATH")
    page = path.read_text()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # it may still be writing there when it is done
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    assert shown.stdout.count('<figure class="table">') == len(TABLES)
    assert shown.stdout.count("<img ") == page.count("<img ")
