from __future__ import annotations

from dataclasses import replace
from statistics import fmean, stdev
from types import SimpleNamespace

import pytest
from made_up import RUN, a_figure, a_scale, a_table, kept, made_up, score_of

from innerloop.experiments.exhibits import Cell, Claim, Stated
from innerloop.experiments.few_shot import Accuracy, Movement, Seconds, Timing
from innerloop.paper import STUDY
from innerloop.paper.scales import SCALES
from innerloop.report.collect import Entry, collect
from innerloop.report.format import command, explained, facts, legend, number, published, signed, stated

PLACE = ("x", "five-")


def answers(values, interval=0.01):
    """Of the seeds, for every network."""
    return lambda question: (
        score_of(values[question.run.seed], interval, f"cpu {question.run.seed}")
        if question.run.seed < len(values)
        else None
    )


def test_mean_deviation_and_difference_over_seeds():
    result = collect(a_table(), a_scale(3), answers([0.5, 0.52, 0.57]), {})
    entry = result.entries[PLACE]
    assert entry.mean == pytest.approx(fmean([50, 52, 57]))
    assert entry.spread == pytest.approx(stdev([50, 52, 57]))
    assert (entry.kind, entry.repeats) == ("sd", 3)
    assert entry.difference == pytest.approx(3)
    assert result.seeds == (0, 1, 2)
    assert result.devices == ("cpu 0", "cpu 1", "cpu 2")
    assert (result.found, result.needed) == (12, 12)


def test_the_interval_of_one_seed_is_in_the_unit_of_the_table():
    result = collect(a_table(), a_scale(3), answers([0.5], interval=0.013), {})
    entry = result.entries[PLACE]
    assert (entry.kind, entry.repeats) == ("interval", 1)
    assert entry.spread == pytest.approx(1.3)
    assert result.entries["xx", "five-"].difference is None, "the paper has no number there"
    assert result.seeds == (0,)


def test_repeats_that_ask_the_same_count_once():
    table = a_table(cell=lambda *_: Cell((Timing(RUN, "training", 3),), lambda answer: answer.mean))
    entry = collect(table, a_scale(3), made_up, {}).entries[PLACE]
    assert (entry.repeats, entry.spread, entry.kind) == (1, None, None)


def test_times_of_two_devices_are_not_compared():
    table, scale = STUDY.exhibit("table6"), SCALES["small"]

    def timed(question):
        slow = 4 if question.run.inner.algorithm == "maml" else 0.5
        device = "fast" if question.run.inner.algorithm == "anil" and mixed else "slow"
        return kept(Seconds(slow, slow, 3, device), device)

    mixed = False
    result = collect(table, scale, timed, {})
    assert set(result.verdicts) == {"holds"}
    assert result.entries["Training: ANIL", "5way-1shot speedup"].mean == 8
    mixed = True
    result = collect(table, scale, timed, {})
    assert set(result.verdicts) == {"not enough runs"}
    assert result.entries["Training: ANIL", "5way-1shot speedup"].mean is None
    assert result.entries["Training: ANIL", "5way-1shot mean (s)"].mean == 0.5
    assert result.devices == ("fast", "slow")


def test_a_number_of_two_measures_has_no_interval_and_needs_both():
    pair = (Accuracy(RUN), Accuracy(RUN, nil=True))
    table = a_table(cell=lambda *_: Cell(pair, lambda a, b: 100 * (a.accuracy - b.accuracy)))
    whole = {pair[0]: score_of(0.5), pair[1]: score_of(0.4)}
    entry = collect(table, a_scale(1), whole.get, {}).entries[PLACE]
    assert (entry.mean, entry.spread) == (pytest.approx(10), None)
    half = {pair[0]: whole[pair[0]]}
    assert collect(table, a_scale(1), half.get, {}).entries[PLACE].mean is None


def test_a_missing_place_and_one_with_nothing_to_measure():
    result = collect(a_table(), a_scale(), lambda _: None, {})
    assert explained(result.entries[PLACE], 1) == "not measured yet"
    assert result.entries["later", "five-"] == Entry(asked=False)
    assert (result.found, result.needed) == (0, 8)


@pytest.mark.parametrize(
    ("limit", "found", "verdict"),
    [(40, [0.5, 0.5], "holds"), (60, [0.5, 0.5], "does not hold"), (40, [], "not enough runs")],
)
def test_verdicts(limit, found, verdict):
    claim = Claim("high", "above", lambda mean: mean[PLACE] > limit)
    assert collect(a_table(claim), a_scale(), answers(found), {}).verdicts == (verdict,)
    claim = Claim("high", "above", lambda panels: panels["lines"]["MAML, seed 0"].y[-1] > limit / 100)
    assert collect(a_figure(claim), a_scale(), answers(found), {}).verdicts == (verdict,)


def test_a_figure_without_its_answers_has_no_panel_and_no_claim_holds():
    always = Claim("true of nothing", "always", lambda panels: all(panels.values()))
    only_one = {Accuracy(RUN.where(seed=1), nil=True): score_of(0.5)}
    result = collect(a_figure(always), a_scale(), only_one.get, {})
    assert (result.panels, result.verdicts, result.found) == ((), ("not enough runs",), 1)


def test_empty_panels_and_series_are_left_out():
    panels = collect(a_figure(), a_scale(), made_up, {}).panels
    assert [panel.title for panel in panels] == ["lines", "curve", "bars", "<clouds>"]
    assert [series.label for series in panels[2].series] == ["iteration 0"]


def test_a_claim_is_judged_on_whole_repeats_and_the_page_says_so():
    table = a_table(Claim("high", "above", lambda mean: mean[PLACE] > 55))

    def find(asked):
        better = score_of(0.7 if asked.run.seed else 0.5)
        return better if asked.run.seed == 0 or asked.run.problem.shot == 1 else None

    result = collect(table, a_scale(), find, {})
    assert result.entries[PLACE].mean == pytest.approx(60)
    assert (result.whole, result.verdicts) == (1, ("does not hold",))
    assert dict(facts(result))["Judged on"].startswith("1 of 2 repeats")
    assert "Judged on" not in dict(facts(collect(table, a_scale(), answers([0.5, 0.5]), {})))


def test_numbers_that_the_paper_states_of_a_figure():
    figure = replace(
        a_figure(),
        stated=(
            Stated("the head", 0.75, lambda panels: panels["lines"]["MAML, seed 0"].y[-1], 2),
            Stated("later", 1, lambda panels: panels["lines"]["ANIL"].y[-1]),
        ),
    )
    rows = stated(collect(figure, a_scale(), answers([0.5, 0.5]), {}))
    assert rows == [["stated in the paper", "paper", "ours", "difference"], ["the head", "0.75", "0.50", "−0.25"]]
    assert stated(collect(figure, a_scale(), lambda _: None, {})) == []
    assert stated(collect(a_figure(), a_scale(), answers([0.5, 0.5]), {})) == []


def test_what_chance_scores_is_averaged_over_answers():
    def find(asked):
        cca = {"block1": 0.1 + 0.1 * asked.run.seed, "head": 0.3}
        return kept(SimpleNamespace(accuracy=0.5, permuted={"cca": cca, "cka": cca}))

    result = collect(a_figure(), a_scale(), find, {})
    assert result.permuted["cca"] == pytest.approx({"block1": 0.15, "head": 0.3})
    assert dict(facts(result))["CCA of unrelated images"] == "Conv1 0.15, Head 0.30"
    assert "CKA of unrelated images" not in dict(facts(result)), "it is not shown"


def test_the_command_names_the_data_that_it_needs():
    figure2, table2 = (STUDY.exhibit(name) for name in ("figure2", "table2"))
    asked = command(STUDY, figure2, SCALES["small"])
    assert asked == "innerloop paper run figure2 --scale small --seeds 2 --mini-imagenet PATH"
    assert command(STUDY, table2, SCALES["paper"]).endswith(" --seeds 3 --omniglot PATH --mini-imagenet PATH")
    assert command(STUDY, table2, SCALES["smoke"]).endswith(" --seeds 2")


def test_notes_of_what_is_missing_come_once():
    table = a_table(cell=lambda *_: Cell((Movement(RUN, 4),), len))
    missing = {Movement(RUN, 4): "needs a disk", Movement(RUN, 5): "of another scale"}
    assert collect(table, a_scale(), lambda _: None, missing).notes == ("needs a disk",)


def test_the_legend_tells_the_kinds_of_spread():
    table = a_table()

    def words(find):
        return legend(collect(table, a_scale(3), find, {}), table)

    assert "standard deviation over 3 repeats." in words(answers([0.5, 0.6, 0.7]))
    assert "95 % interval over the test episodes of one repeat." in words(answers([0.5]))
    mixed = words(lambda asked: answers([0.5] if asked.run.problem.shot == 1 else [0.5, 0.6])(asked))
    assert "deviation over 2 repeats; with † the 95 % interval" in mixed
    assert "±" not in words(lambda _: None)


def test_numbers():
    assert (number(-0.04, 1), number(-3, 1), signed(0.04, 1), signed(2, 0)) == ("0.0", "−3.0", "0.0", "+2")
    assert published(Entry(published=(98.0, 0.04)), 1) == "98.0 ± 0.04"
    assert published(Entry(published=(-139.0, None)), 1) == "−139.0"
