from __future__ import annotations

import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from made_up import ASKED, a_figure, a_scale, a_table, made_up

from innerloop import report
from innerloop.experiments.exhibits import Claim
from innerloop.experiments.questions import name_of
from innerloop.paper import ARTIFACTS
from innerloop.paper.scales import SCALES
from innerloop.report import page, write

VOID = {"meta", "link", "br", "wbr", "img"}
CLAIMS = (
    Claim("This holds.", "always", lambda _: True),
    Claim("This is wrong & <odd>.", "never", lambda _: False),
    Claim("This is open.", "later", lambda mean: mean["no", "where"]),
)


class Balanced(HTMLParser):
    """Fails at a tag that is closed in the wrong place; collects text, ids and links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def everything():
    return page([SCALES["smoke"]], made_up, ARTIFACTS.values())


def test_every_artifact_is_on_the_page_and_in_the_markdown(everything):
    parsed = Balanced(everything.html)
    text = "".join(parsed.text)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {f"#{each}" for each in parsed.ids} >= {link for link in parsed.links if link.startswith("#")}
    for name, artifact in ARTIFACTS.items():
        assert f"{name}-smoke" in parsed.ids
        assert artifact.title in text
        assert f'<a id="{name}-smoke"></a>' in everything.markdown
        assert f"innerloop paper run {name} --scale smoke" in text
        for claim in artifact.claims:
            assert claim.sentence in text
            assert claim.test in text
        if name.startswith("figure"):
            assert f"(figures/{name}-smoke.svg)" in everything.markdown
            assert everything.figures[f"{name}-smoke.svg"].startswith("<svg ")
    assert "these numbers only show that everything runs" in text


def test_the_page_needs_nothing_from_outside(everything):
    outside = [link for link in Balanced(everything.html).links if not link.startswith(("#", "data:,"))]
    assert set(outside) == {"https://arxiv.org/abs/1909.09157"}
    assert not re.findall(r"@import|<script|<img|<iframe|url\((?!#)", everything.html)


def test_the_same_answers_give_the_same_bytes():
    reports = [page([a_scale()], made_up, [a_table(*CLAIMS), a_figure()]) for _ in range(2)]
    assert reports[0] == reports[1]


def test_verdicts_and_numbers_are_shown_and_text_is_escaped():
    made = page([a_scale(), a_scale(1, "large")], made_up, [a_table(*CLAIMS)])
    text = "".join(Balanced(made.html).text)
    assert "Scale small: 1 of 3 claims hold, 1 does not, for 1 there are not enough runs." in text.replace(
        "holds,", "hold,"
    )
    for verdict in ("✓ holds", "✗ does not hold", "… not enough runs"):
        assert text.count(verdict) == 4, "in the summary and in the section, at both scales"
        assert made.markdown.count(verdict) == 4
    assert ASKED in text
    assert "This is wrong & <odd>." in text
    assert "<odd>" not in made.html
    assert r"a \<b\>&amp; " in made.markdown
    assert r"\| \*d\* \_e\_" in made.markdown
    assert "paper 50.0 ± 0.04" in text
    assert "smoke" not in text


def test_decimals_of_a_column():
    made = page([a_scale(1)], made_up, [a_table(column_digits={"five-": 3})])
    assert "paper 50.000 ± 0.040" in made.html


def test_without_answers_the_page_says_so():
    notes = dict.fromkeys(a_table().measures(a_scale()), "needs pictures: --pictures PATH")
    made = page([a_scale()], lambda _: None, [a_table(*CLAIMS), a_figure()], notes)
    for text in ("".join(Balanced(made.html).text), made.markdown):
        assert "Nothing is measured yet" in text
        assert "none of 8 measures, needs pictures: --pictures PATH" in text
        assert "innerloop paper run figure2 --scale small" in text
    assert not made.figures
    assert page([a_scale()], lambda _: None, []).html.count("<section") == 0


def test_what_is_not_made_comes_last_and_a_scale_without_answers_not_at_all():
    scales = [a_scale(), a_scale(1, "paper")]
    asked = set(a_table().measures(scales[0]))
    made = page(scales, lambda m: made_up(m) if m in asked else None, [a_figure(), a_table(*CLAIMS)])
    parsed = Balanced(made.html)
    assert parsed.ids.index("undone") > parsed.ids.index("table1-small")
    assert "figure2-small" not in parsed.ids
    assert "Scale paper" not in made.html


def test_a_part_of_the_measures_is_named():
    whole = a_table().measures(a_scale())
    made = page([a_scale()], lambda m: made_up(m) if m in whole[:3] else None, [a_table()])
    assert "3 of 8 are there" in made.html
    assert 'title="not measured yet"' in made.html
    assert 'title="not measured here"' in made.html
    figure = page([a_scale()], lambda m: made_up(m) if m.run.seed else None, [a_figure()])
    assert "needs more runs" in figure.html
    assert "needs more runs" in figure.markdown


def test_any_part_of_the_answers_makes_a_page():
    for share in (0.2, 0.5, 0.8):

        def some(measure, share=share):
            return made_up(measure) if random.Random(f"{name_of(measure)} {share}").random() < share else None

        Balanced(page([SCALES["smoke"]], some, [each for each in ARTIFACTS.values() if hasattr(each, "rows")]).html)


def test_files(tmp_path):
    made = page([a_scale()], made_up, [a_figure()])
    path = write(made, tmp_path / "new" / "folder")
    assert path.read_text(encoding="utf-8") == made.html
    assert (path.parent / "report.md").read_text(encoding="utf-8") == made.markdown
    assert [each.name for each in (path.parent / "figures").iterdir()] == ["figure2-small.svg"]


def test_it_imports_no_training_and_no_window():
    lines = [line for path in Path(report.__file__).parent.glob("*.py") for line in path.read_text().splitlines()]
    imports = [line for line in lines if line.startswith(("from ", "import "))]
    assert any("innerloop.experiments.questions" in line for line in imports)
    assert not [line for line in imports if re.search("execute|learner|pyplot", line)]


def test_in_a_browser(everything, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium on the PATH")
    path = write(everything, tmp_path / "report")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # it may still be writing there when it is done
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    tables = sum(name.startswith("table") for name in ARTIFACTS)
    assert shown.stdout.count('<figure class="table">') == tables
    assert shown.stdout.count("<svg ") == everything.html.count("<svg ") >= len(ARTIFACTS) - tables
    assert shown.stdout.rstrip().endswith("</html>")
