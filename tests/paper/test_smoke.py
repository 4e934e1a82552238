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
from innerloop.paper import ARTIFACTS
from innerloop.paper.scales import SCALES
from innerloop.report.collect import collect
from innerloop.report.format import heading

TABLES = [name for name, artifact in ARTIFACTS.items() if isinstance(artifact, Table)]
FIGURES = [name for name in ARTIFACTS if name not in TABLES]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("smoke")


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
    for artifact in ARTIFACTS.values():
        made = collect(artifact, scale, lambda measure: find(measure, store), {})
        assert made.found == made.needed > 0
        waiting = [i for i, verdict in enumerate(made.verdicts) if verdict == "not enough runs"]
        assert waiting == ([1] if artifact.name == "table2" else []), "reinforcement learning has no runs yet"
        assert bool(made.panels) == (artifact.name in FIGURES)

    assert call("paper", "report").out == "report: paper-report/index.html\n"
    page, markdown = ((place / "paper-report" / name).read_text() for name in ("index.html", "report.md"))
    for artifact in ARTIFACTS.values():
        assert heading(artifact) in markdown
        assert f'href="#{artifact.name}"' in page
        assert f'id="{artifact.name}"' in page
    assert "not measured yet" not in page
    assert page.count("<svg ") >= len(FIGURES)
    pictures = {path.name for path in (place / "paper-report" / "figures").iterdir()}
    assert pictures == {f"{name}-smoke.svg" for name in FIGURES}


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
    assert shown.stdout.count("<svg ") == page.count("<svg ")
