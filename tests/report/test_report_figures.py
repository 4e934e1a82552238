from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from made_up import a_figure, a_scale, made_up

from innerloop.experiments.exhibits import Panel, Series
from innerloop.report.collect import collect
from innerloop.report.plot import columns, png, svg
from innerloop.report.style import FIRST, LATER, MEANING, ORDERED, colours, tint

PANELS = collect(a_figure(), a_scale(), made_up, {}).panels


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_kind_is_drawn_the_same_every_time(panel):
    picture = svg([panel], "a & b")
    assert picture == svg([panel], "a & b")
    title = ElementTree.fromstring(picture).find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "a & b"
    text = picture.decode()
    assert not {"date", "Matplotlib"} & set(re.findall(r"\w+", text))
    assert not re.search(r"<script|<image|url\((?!#)|href=\"(?!#)", text), "it needs nothing from outside"
    assert png([panel]).startswith(b"\x89PNG")


def test_colours_follow_the_meaning():
    found = colours(
        ["MAML, seed 0", "ANIL validation", "MAML, seed 1", "iteration 0", "iteration 9", "First order MAML", "other"]
    )
    assert found["MAML, seed 0"] == (MEANING["maml"], 0)
    assert found["MAML, seed 1"] == (MEANING["maml"], 1)
    assert found["ANIL validation"] == (MEANING["anil"], 0)
    assert found["First order MAML"][0] not in (MEANING["maml"], found["iteration 0"][0])
    assert found["iteration 0"][0] != found["iteration 9"][0]
    assert colours(["iteration 9"])["iteration 9"] == found["iteration 9"], "also where there is no iteration 0"
    assert len({colour for colour, _ in found.values()}) == 6
    assert not {*LATER, FIRST, *ORDERED} & set(MEANING.values())
    assert tint("#3b6fb6", 0) == "#3b6fb6" != tint("#3b6fb6", 1)


def test_clouds_too_small_for_a_line_are_drawn():
    for y in ((0.5,), (0.5, 0.5, 0.5)):
        panel = Panel("dots", "x", "y", (Series("MAML", (0.5,) * len(y), y),), kind="against")
        assert ElementTree.fromstring(svg([panel], "dots")) is not None


def test_panels_stand_side_by_side():
    assert [columns(PANELS[:1] * count) for count in (1, 2, 3, 4, 6)] == [1, 2, 3, 2, 2]
