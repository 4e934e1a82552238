"""How long what is left takes, by what was recorded."""

from __future__ import annotations

import pytest

from innerloop.experiments.estimates import all_left, duration, rates, seconds_left
from innerloop.experiments.plan import Training
from innerloop.runs.config import Spec

RUN = Spec().where(iterations=100)


def training(seed: int, done: int = 0, seconds: float | None = None, *, needed: bool = True, **changes) -> Training:
    finished = done == RUN.schedule.iterations
    return Training(RUN.where(seed=seed, **changes), done, finished, needed and not finished, seconds)


def test_a_run_that_has_begun_goes_on_at_its_own_rate():
    begun = training(0, 25, 50.0)
    assert seconds_left(begun, {}) == 150
    assert seconds_left(begun, rates([training(1, 100, 9999.0)])) == 150


def test_a_new_run_is_as_fast_as_those_of_other_seeds():
    known = rates([training(0, 100, 200.0), training(1, 50, 200.0)])
    assert seconds_left(training(2), known) == 300
    assert seconds_left(training(2, lr=0.1), known) is None, "of other settings nothing is known"


def test_nothing_is_left_of_what_is_not_needed():
    assert seconds_left(training(0, 100, 5.0), {}) == 0
    assert seconds_left(training(0, needed=False), {}) == 0


def test_a_head_is_as_fast_as_a_head_on_the_body_of_another_seed():
    known = rates([training(0, 100, 10.0, algorithm="anil", body="body-of-seed-0")])
    assert seconds_left(training(1, algorithm="anil", body="body-of-seed-1"), known) == 10
    assert seconds_left(training(1, algorithm="anil"), known) is None


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([], "about a minute"),
        ([training(0)], "unknown"),
        ([training(0, 50, 3600.0), training(1)], "about 3.0 h"),
        ([training(0, 50, 7200.0), training(1, lr=0.2)], "about 2.0 h and 1 run of unknown length"),
        ([training(0, 50, 7200.0), training(1, lr=0.2), training(1, lr=0.3)],
         "about 2.0 h and 2 runs of unknown length"),
    ],
)  # fmt: skip
def test_what_is_left_of_all(plan, said):
    assert all_left(plan) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "a minute"), (89, "a minute"), (100, "2 min"), (3600, "60 min"), (7190, "120 min"), (12_600, "3.5 h")],
)
def test_durations_for_people(seconds, said):
    assert duration(seconds) == said
