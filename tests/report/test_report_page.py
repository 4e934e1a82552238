from __future__ import annotations

import base64
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import pytest
from made_up import ASKED, WORTH, a_figure, a_scale, a_study, a_table, made_up, score_of

from innerloop import report
from innerloop.experiments.exhibits import Claim, Table
from innerloop.experiments.questions import name_of
from innerloop.paper import STUDY
from innerloop.paper.scales import SCALES
from innerloop.report import compose, write

VOID = {"meta", "link", "br", "wbr", "img"}
CLAIMS = (
    Claim("This holds.", "always", lambda _: True),
    Claim("This is wrong & <odd>.", "never", lambda _: False),
    Claim("This is open.", "later", lambda mean: mean["no", "where"]),
)
PICTURE = "data:image/svg+xml;base64,"


class Balanced(HTMLParser):
    """Fails at a tag that is closed in the wrong place; collects text, ids, links and pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag == "img":
            assert found["alt"] not in self.pictures
            self.pictures[found["alt"]] = found["src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(html: str) -> str:
    """What a reader sees, with single blanks."""
    return " ".join("".join(Balanced(html).text).split())


@pytest.fixture(scope="module")
def everything():
    return compose(STUDY, made_up, (SCALES["paper"],))


def test_every_exhibit_is_on_the_page_and_in_the_markdown(everything):
    parsed, text = Balanced(everything.html), words(everything.html)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {f"#{each}" for each in parsed.ids} >= {link for link in parsed.links if link.startswith("#")}
    for exhibit in STUDY.exhibits:
        name = exhibit.name
        assert f"{name}-paper" in parsed.ids
        assert exhibit.title in text
        assert f'<a id="{name}-paper"></a>' in everything.markdown
        assert f"innerloop paper run {name} --scale paper" in text
        for claim in exhibit.claims:
            assert claim.sentence in text
            assert claim.test in text
        if name.startswith("figure"):
            assert f"(figures/{name}-paper.svg)" in everything.markdown
            assert ElementTree.fromstring(everything.figures[f"{name}-paper.svg"]) is not None


def test_the_page_needs_nothing_from_outside(everything):
    outside = {link for link in Balanced(everything.html).links if not link.startswith(("#", "data:"))}
    assert outside == {"https://arxiv.org/abs/1909.09157"}
    assert not re.findall(r"@import|<script|<iframe|url\((?!#)", everything.html)


def test_pictures_are_in_the_page_and_say_what_they_show(everything):
    pictures = Balanced(everything.html).pictures
    assert "Figure 2, scale paper: CCA before and after adaptation" in pictures
    for source in pictures.values():
        assert ElementTree.fromstring(base64.b64decode(source.removeprefix(PICTURE), validate=True)) is not None


def test_it_begins_with_what_was_asked_and_what_was_found(everything):
    start = words(everything.html).split("Every table and figure")[0]
    assert STUDY.asks in start
    assert "Found at scale paper, 3 seeds: Feature reuse. On mini-ImageNet" in start
    assert everything.markdown.split("\n\n")[1].startswith(STUDY.asks)
    assert "**Found at scale paper, 3 seeds:** Feature reuse." in everything.markdown.split("\n\n")[1]


def test_too_few_runs_for_an_answer_are_said():
    made = compose(STUDY, lambda question: made_up(question) if question in asked else None, (SCALES["small"],))
    assert "Found: nothing that can be said in a sentence yet" in words(made.html)
    assert "**Found:** nothing that can be said in a sentence yet" in made.markdown


asked = set(STUDY.exhibit("table1").questions(SCALES["small"]))


def test_the_largest_scale_that_can_answer_does():
    study = a_study(a_table(), scales=(a_scale(), a_scale(1, "large")), finds=lambda found: f"{len(found)} exhibit.")
    assert words(compose(study, made_up).html).count("Found at scale large, 1 seed: 1 exhibit.") == 1


def test_numbers_that_mean_nothing_are_not_judged():
    scale = a_scale(judged=False)
    made = compose(a_study(a_table(*CLAIMS), scales=(scale,), finds=lambda _: "Something."), made_up)
    for text in (words(made.html), made.markdown):
        assert not re.search("✓|✗|… not enough|Something", text)
        assert "not judged" in text
    assert made.html.count('class="banner"') == 2, "at the top, and beside the numbers"


@pytest.mark.slow
def test_a_scale_says_what_it_is_beside_each_number():
    made = compose(a_study(a_table(), a_figure()), made_up)
    assert words(made.html).count(WORTH) == 3
    assert made.markdown.count(r"Small &amp; \<quick\>: what compares is the order.") == 3
    small = words(compose(STUDY, made_up, (SCALES["small"],)).html)
    assert small.count(SCALES["small"].about) == len(STUDY.exhibits), "at the top and at all but Table 6, a timing"


def test_the_same_answers_give_the_same_bytes():
    reports = [compose(a_study(a_table(*CLAIMS), a_figure()), made_up) for _ in range(2)]
    assert reports[0] == reports[1]


def test_verdicts_and_numbers_are_shown_and_text_is_escaped():
    study = a_study(a_table(*CLAIMS), scales=(a_scale(), a_scale(1, "large")))
    made = compose(study, made_up)
    text = words(made.html)
    assert "Scale small: 1 of 3 claims holds, 1 does not, for 1 there are not enough runs." in text
    for verdict in ("✓ holds", "✗ does not hold", "… not enough runs"):
        assert text.count(verdict) == 4, "in the summary and in the section, at both scales"
        assert made.markdown.count(verdict) == 4
    assert ASKED in text
    assert "This is wrong & <odd>." in text
    assert "<odd>" not in made.html
    assert r"a \<b\>&amp; " in made.markdown
    assert r"\| \*d\* \_e\_" in made.markdown
    assert "paper 50.0 ± 0.04" in text
    assert "the paper says" not in text, "a study of one's own reproduces none"


def test_tables_of_the_markdown_are_whole(everything):
    """As many cells in every row as in the head."""
    for block in everything.markdown.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1, block


def test_decimals_of_a_column():
    made = compose(a_study(a_table(column_digits={"five-": 3}), scales=(a_scale(1),)), made_up)
    assert "paper 50.000 ± 0.040" in made.html


def test_without_answers_the_page_says_so():
    notes = dict.fromkeys(a_table().questions(a_scale()), "needs pictures: --pictures PATH")
    made = compose(a_study(a_table(*CLAIMS), a_figure()), lambda _: None, missing=notes)
    for text in (words(made.html), made.markdown):
        assert "Nothing is measured yet" in text
        assert "none of 8 questions, needs pictures: --pictures PATH" in text
        assert "innerloop study made_up.py run figure2 --scale small" in text
    assert not made.figures


def test_what_is_not_made_comes_last_and_a_scale_without_answers_not_at_all():
    asked = set(a_table().questions(a_scale()))
    study = a_study(a_figure(), a_table(*CLAIMS), scales=(a_scale(), a_scale(1, "paper")))
    made = compose(study, lambda question: made_up(question) if question in asked else None)
    parsed = Balanced(made.html)
    assert parsed.ids.index("undone") > parsed.ids.index("table1-small")
    assert "figure2-small" not in parsed.ids
    assert "Scale paper" not in made.html


def test_a_part_of_the_questions_is_named():
    whole = a_table().questions(a_scale())
    made = compose(a_study(a_table()), lambda question: made_up(question) if question in whole[:3] else None)
    assert "3 of 8 are answered" in made.html
    assert 'title="not measured yet"' in made.html
    assert 'title="not measured here"' in made.html
    figure = compose(a_study(a_figure()), lambda question: made_up(question) if question.run.seed else None)
    assert "needs more runs" in figure.html
    assert "needs more runs" in figure.markdown


def test_any_part_of_the_answers_makes_a_page():
    tables = STUDY.only([exhibit.name for exhibit in STUDY.exhibits if isinstance(exhibit, Table)])
    for share in (0.2, 0.5, 0.8):

        def some(question, share=share):
            return made_up(question) if random.Random(f"{name_of(question)} {share}").random() < share else None

        Balanced(compose(tables, some, (SCALES["small"],)).html)


def test_a_score_without_an_interval_is_shown():
    made = compose(a_study(a_table(), scales=(a_scale(1),)), lambda _: score_of(0.5, None))
    assert "<b>50.0" not in made.html
    assert "50.0" in made.html


def test_files(tmp_path):
    made = compose(a_study(a_figure()), made_up)
    path = write(made, tmp_path / "new" / "folder")
    assert path.read_text(encoding="utf-8") == made.html
    assert (path.parent / "report.md").read_text(encoding="utf-8") == made.markdown
    assert [each.name for each in (path.parent / "figures").iterdir()] == ["figure2-small.svg"]


def test_it_imports_no_window():
    lines = [line for path in Path(report.__file__).parent.glob("*.py") for line in path.read_text().splitlines()]
    assert not [line for line in lines if line.startswith(("from ", "import ")) and "pyplot" in line]


@pytest.mark.slow
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
    tables = sum(exhibit.name.startswith("table") for exhibit in STUDY.exhibits)
    assert shown.stdout.count('<figure class="table">') == tables
    assert shown.stdout.count("<img ") == everything.html.count("<img ") >= len(STUDY.exhibits) - tables
    assert shown.stdout.rstrip().endswith("</html>")
