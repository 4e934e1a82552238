"""Campaigns: nothing is trained or computed twice, whatever stops them, and nothing is mixed up."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from innerloop.experiments import estimates
from innerloop.experiments import plan as campaign
from innerloop.experiments.answers import find, path_of
from innerloop.experiments.estimates import answer_seconds
from innerloop.experiments.plan import carry_out, duration, seconds_left, trainings
from innerloop.experiments.questions import Accuracy, Change, Curves, Measure, Resemblance, Timing, name_of, subject
from innerloop.outer import meta_train
from innerloop.runs import execute
from innerloop.runs.checkpoint import load_checkpoint
from innerloop.runs.config import Spec, as_dict
from innerloop.runs.execute import How, Interrupted
from innerloop.runs.folder import alone, claimed

CPU = How(device="cpu")


@pytest.fixture(scope="module")
def maml(tmp_path_factory) -> Spec:
    data = tiny.pictures(tmp_path_factory.mktemp("campaign") / "shapes", each=16)
    return Spec(
        data=str(data), algorithm="maml", way=3, shot=1, query=2, tasks=2, steps=1, lr=0.4, width=4, size=20,
        pooling="stride", iterations=4, keep=2, log_every=1, val_every=2, val_episodes=2, test_episodes=3,
        test_query=2, test_steps=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_cache(maml, monkeypatch):
    """The pictures are decoded once for all tests here."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(Path(maml.data).parent / "cache"))


def other(maml: Spec) -> Spec:
    return replace(maml, seed=1)


def questions(maml: Spec) -> list[Measure]:
    """Two runs, and what is asked of one, of the other, and of both."""
    return [Accuracy(maml), Accuracy(maml, frozen=4), Change(other(maml), 1, at=2), Curves(maml),
            Resemblance(maml, other(maml), 1)]  # fmt: skip


class Told(list[str]):
    """What a campaign said, did and missed."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[Spec] = []
        self.computed: list[Measure] = []
        self.missing: dict[Measure, str] = {}


@pytest.fixture
def carry(monkeypatch):
    """Carries measures out in a store and tells what was done."""
    real = {"train": campaign.train, "compute": campaign.compute}

    def carried(measures: Sequence[Measure], store: Path, source: Path | None = None) -> Told:
        told = Told()

        def train(spec: Spec, *rest: Any) -> Any:
            told.trained.append(spec)
            return real["train"](spec, *rest)

        def compute(measure: Measure, *rest: Any) -> Any:
            told.computed.append(measure)
            return real["compute"](measure, *rest)

        monkeypatch.setattr(campaign, "train", train)
        monkeypatch.setattr(campaign, "compute", compute)
        told.missing = carry_out(
            measures, store, lambda spec: replace(CPU, source=source if spec.data == "omniglot" else None), told.append
        )
        return told

    return carried


def answers(measures: Sequence[Measure], store: Path) -> list[dict[str, Any]]:
    """Without the time that it took."""
    found = [find(measure, store) for measure in measures]
    assert None not in found
    return [{key: value for key, value in answer.items() if key != "seconds"} for answer in found if answer]


@pytest.fixture(scope="module")
def whole(maml, tmp_path_factory) -> Path:
    """A store that nothing disturbed."""
    store = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(Path(maml.data).parent / "cache"))
        assert carry_out(questions(maml), store, lambda _: CPU, lambda _: None) == {}
    return store


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


# Once and no more


def test_everything_is_made_once(maml, tmp_path, carry):
    measures, store = questions(maml), tmp_path / "store"
    told = carry([*measures, measures[0]], store)
    assert told.missing == {}
    assert told.trained == [maml, other(maml)]
    assert sorted(map(name_of, told.computed)) == sorted(map(name_of, measures))
    assert told.computed[:3] == [measures[0], measures[1], measures[3]], "as soon as its runs are there"
    assert told[0] == "6 of 6 measures and 2 of the 2 runs they need are left"
    assert told[1].startswith(f"run 1 of 2: {maml.name}; about ")
    assert len(told) == 3
    assert [training.finished for training in trainings(measures, store)] == [True, True]

    again = carry(measures, store)
    assert (again.trained, again.computed, again.missing) == ([], [], {})
    assert again == ["0 of 5 measures and 0 of the 2 runs they need are left"]


def test_a_new_question_trains_nothing_that_is_there(maml, copied, carry):
    anil = replace(maml, algorithm="anil")
    told = carry([*questions(maml), Accuracy(maml, nil=True), Resemblance(anil, maml, 1)], copied)
    assert told.trained == [anil]
    assert told.computed == [Accuracy(maml, nil=True), Resemblance(anil, maml, 1)]


def test_a_deleted_answer_is_computed_again_and_nothing_else(maml, whole, copied, carry):
    measures = questions(maml)
    gone = measures[2]
    (copied / "measured" / f"{name_of(gone)}.json").unlink()
    told = carry(measures, copied)
    assert (told.trained, told.computed) == ([], [gone])
    assert answers(measures, copied) == answers(measures, whole)


@pytest.mark.parametrize("what", ["folder", "result"])
def test_a_deleted_run_is_trained_again_once_an_answer_needs_it(what, maml, whole, copied, carry):
    measures = questions(maml)
    if what == "folder":
        shutil.rmtree(copied / maml.name)
    else:
        (copied / maml.name / "result.json").unlink()
    assert [(training.finished, training.needed) for training in trainings(measures, copied)] == [
        (False, False),
        (True, False),
    ]
    assert carry(measures, copied).trained == []
    path_of(measures[0], copied).unlink()
    told = carry(measures, copied)
    assert (told.trained, told.computed, told.missing) == ([maml], [measures[0]], {})
    tiny.same_run(copied / maml.name, whole / maml.name)
    assert carry(measures, copied).trained == []


@pytest.mark.parametrize("lost", ["best.safetensors", "at-{}.safetensors"])
def test_a_run_that_lost_a_checkpoint_says_what_to_delete(lost, maml, copied, carry):
    measures = [Accuracy(maml, frozen=1), Accuracy(maml, frozen=1, at=maml.keep)]
    for measure in measures:
        path_of(measure, copied).unlink(missing_ok=True)
    (copied / maml.name / lost.format(maml.keep)).unlink()
    missing = carry(measures, copied).missing
    (why,) = missing.values()
    assert f"is a finished run without its {lost.format(maml.keep)}: delete the folder to train it again" in why
    shutil.rmtree(copied / maml.name)
    told = carry(measures, copied)
    assert (told.trained, told.missing) == ([maml], {})


@pytest.mark.parametrize("damage", ["{", "{}"])
def test_a_damaged_result_is_named_and_an_empty_one_is_made_again(damage, maml, copied, carry):
    measure, result = Accuracy(maml), copied / maml.name / "result.json"
    path_of(measure, copied).unlink(missing_ok=True)
    result.write_text(damage)
    if damage == "{":
        with pytest.raises(ValueError, match=f"{result} is damaged"):
            carry([measure], copied)
    else:
        told = carry([measure], copied)
        assert (told.trained, told.computed, told.missing) == ([maml], [measure], {})


def test_a_damaged_answer_stops_it_and_is_named(maml, copied, carry):
    path = copied / "measured" / f"{name_of(questions(maml)[0])}.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        carry(questions(maml), copied)


# Stopped in the middle


class stopped:  # noqa: N801  reads as a word
    """Inside, a signal comes, or an error, after the third step of the training with this number."""

    def __init__(self, training: int, how: signal.Signals | type[BaseException]) -> None:
        self.left, self.how, self.patch = training, how, pytest.MonkeyPatch()

    def __enter__(self) -> None:
        def steps(*arguments: Any, **settings: Any) -> Any:
            self.left -= 1
            for step in meta_train(*arguments, **settings):
                if step.number == 3 and self.left == 0:
                    if not isinstance(self.how, signal.Signals):
                        raise self.how
                    os.kill(os.getpid(), self.how)
                yield step

        self.patch.setattr(execute, "meta_train", steps)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize(
    ("training", "how"), [(1, signal.SIGTERM), (2, signal.SIGINT), (2, KeyboardInterrupt)], ids=str
)
def test_stopped_in_a_training_it_goes_on_to_the_same_answers(training, how, maml, whole, tmp_path, carry):
    measures, store = questions(maml), tmp_path / "store"
    gently = isinstance(how, signal.Signals)
    with stopped(training, how), pytest.raises(Interrupted if gently else KeyboardInterrupt):
        carry(measures, store)
    left = trainings(measures, store)[training - 1]
    assert left.done == (3 if gently else 2), "where it was asked to stop, or at its last validation"
    assert not left.finished
    told = carry(measures, store)
    assert told.trained == [maml, other(maml)][training - 1 :]
    assert told.missing == {}
    assert answers(measures, store) == answers(measures, whole)
    for run in (maml, other(maml)):
        tiny.same_run(store / run.name, whole / run.name)


def test_stopped_between_answers_it_computes_the_others(maml, whole, copied, carry, monkeypatch):
    measures = questions(maml)
    shutil.rmtree(copied / "measured")
    real = campaign.compute

    def interrupted(measure: Measure, *_: Any) -> Any:
        if isinstance(measure, Change):
            raise KeyboardInterrupt
        return real(measure, *_)

    monkeypatch.setattr(campaign, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(measures, copied, lambda _: CPU, lambda _: None)
    monkeypatch.setattr(campaign, "compute", real)
    told = carry(measures, copied)
    assert (told.trained, told.computed) == ([], measures[2:])
    assert answers(measures, copied) == answers(measures, whole)


# What cannot be done now


BUSY = "another process is at work on it: give the same command again later"


def test_a_run_that_another_process_trains_is_left_to_it(maml, tmp_path, carry):
    measures, store = questions(maml), tmp_path / "store"
    with claimed(store / maml.name, as_dict(maml)):
        told = carry(measures, store)
    assert told.missing == dict.fromkeys([measures[0], measures[1], measures[3], measures[4]], BUSY)
    assert told.computed == [measures[2]]
    assert told[2] == f"left out: {BUSY}"
    again = carry(measures, store)
    assert again.trained == [maml]
    assert again.missing == {}


def test_an_answer_that_another_process_computes_is_left_to_it(maml, whole, copied, carry):
    measures = questions(maml)
    shutil.rmtree(copied / "measured")
    path = path_of(measures[1], copied)
    path.parent.mkdir()
    with alone(path.with_name(f".{path.stem}.lock"), path):
        told = carry(measures, copied)
    assert told.missing == {measures[1]: BUSY}
    assert told.computed == [measures[0], *measures[2:]]
    assert carry(measures, copied).computed == [measures[1]]
    assert answers(measures, copied) == answers(measures, whole)


def test_a_missing_data_set_costs_its_own_measures_alone(maml, tmp_path, carry):
    absent = replace(maml, data="omniglot", split="reference", size=20)
    measures = [Accuracy(absent), Accuracy(maml), Change(absent, 1), Timing(absent, "inference", 1)]
    told = carry(measures, tmp_path / "store", source=tmp_path / "nowhere")
    assert set(told.missing) == {Accuracy(absent), Change(absent, 1)}
    assert set(told.computed) == {Accuracy(maml), Timing(absent, "inference", 1)}
    (why,) = set(told.missing.values())
    assert "nowhere" in why
    assert "\n" not in why
    assert f"left out: {why}" in told


def test_a_data_set_that_went_missing_after_the_training(maml, copied, carry, monkeypatch):
    def gone(*_: Any) -> Any:
        raise FileNotFoundError("the disk\nis gone")

    monkeypatch.setattr(campaign, "open_data", gone)
    told = carry([Accuracy(maml, frozen=1), Curves(other(maml))], copied)
    assert told.missing == {Accuracy(maml, frozen=1): "the disk is gone"}
    assert find(Curves(other(maml)), copied), "which needs no images"


def test_a_head_whose_body_is_missing(maml, tmp_path, carry):
    head = replace(maml, algorithm="anil", body=maml.name, keep=0)
    told = carry([Accuracy(head)], tmp_path / "alone")
    assert list(told.missing) == [Accuracy(head)]
    assert f"there is no checkpoint {maml.name}" in told.missing[Accuracy(head)]

    both = carry([Accuracy(head), Accuracy(maml)], tmp_path / "both")
    assert both.trained == [maml, head], "bodies first, however they are asked for"
    assert both.missing == {}


def test_a_device_that_is_not_there_is_said_at_once(maml, tmp_path):
    with pytest.raises(ValueError, match="no device 'cuda:99' here"):
        carry_out(questions(maml), tmp_path, lambda _: How(device="cuda:99"), lambda _: None)


# Settings


def test_settings_do_not_mix_in_one_store(maml, whole, copied, carry):
    longer = replace(maml, iterations=6)
    told = carry([*questions(maml), *questions(longer)], copied)
    assert told.trained == [longer, other(longer)]
    assert told.computed == [measure for measure in told.computed if subject(measure).iterations == 6]
    assert len(told.computed) == 5
    for run in (maml, other(maml)):
        tiny.same_run(copied / run.name, whole / run.name)
    assert answers(questions(maml), copied) == answers(questions(maml), whole)
    for run in (maml, longer):
        assert json.loads((copied / run.name / "spec.json").read_text()) == as_dict(run)
        kept = json.loads((copied / "measured" / f"{name_of(Accuracy(run))}.json").read_text())
        assert kept["question"]["run"] == as_dict(run)
        assert find(Curves(run), copied)
    assert find(Accuracy(longer), whole) is None


# How long it takes


@pytest.fixture
def trials(monkeypatch) -> list[Spec]:
    made: list[Spec] = []
    monkeypatch.setattr(estimates, "_step", lambda spec, *_: made.append(spec) or 0.5)
    monkeypatch.setattr(estimates, "_task", lambda *_: 0.0)
    return made


def test_what_is_left_of_a_finished_run(maml, whole, trials):
    for training in trainings(questions(maml), whole):
        assert seconds_left(training, whole, CPU) == 0
    assert trials == []


def test_what_is_left_of_a_half_done_run_is_by_its_own_rate(maml, tmp_path, trials):
    with stopped(1, signal.SIGTERM), pytest.raises(Interrupted):
        execute.train(maml, tmp_path / maml.name, CPU)
    (training,) = trainings([Accuracy(maml)], tmp_path)
    took = load_checkpoint(tmp_path / maml.name / "last.safetensors").metadata["seconds"]
    assert training.done == 3
    assert seconds_left(training, tmp_path, CPU) == pytest.approx(took / 3)
    assert trials == []


def test_what_is_left_of_a_new_run_is_tried_once_for_all_seeds(maml, tmp_path, trials):
    def left(*runs: Spec, how: How = CPU) -> list[float]:
        return [seconds_left(training, tmp_path, how) for training in trainings(map(Accuracy, runs), tmp_path)]

    assert left(maml, other(maml), replace(maml, iterations=8), replace(maml, meta_lr=1, keep=0)) == [2, 4, 2, 2]
    assert trials == [maml]
    assert left(replace(maml, algorithm="anil"), replace(maml, way=2)) == [2, 2]
    assert len(trials) == 3
    assert left(maml, how=How(device="cpu", chunk_size=1)) == [2]
    assert len(trials) == 4, "fewer tasks at once take longer"
    assert left(replace(maml, width=8, iterations=0)) == [0]
    assert len(trials) == 4, "a run of no iterations needs no trial"
    rates = json.loads((tmp_path / "rates.json").read_text())
    assert set(rates.values()) == {0.5, 0.0}
    assert all("CPU" in name for name in rates)


def test_what_is_left_counts_validations_and_the_test(maml, tmp_path, trials, monkeypatch):
    monkeypatch.setattr(estimates, "_task", lambda measure, _: 0.01 if measure.run.test_query == 7 else 0.1)
    spec = replace(maml, iterations=8, keep=0, val_every=3, val_episodes=20, query=7, test_episodes=50, test_query=2)
    (training,) = trainings([Accuracy(spec)], tmp_path)
    assert seconds_left(training, tmp_path, CPU) == pytest.approx(8 * 0.5 + 3 * 20 * 0.01 + 50 * 0.1)
    assert len(trials) == 1


@pytest.mark.parametrize("algorithm", ["maml", "anil", "nil", "multitask", "multiclass"])
def test_every_kind_of_run_can_be_tried(algorithm, maml, tmp_path):
    (training,) = trainings([Accuracy(replace(maml, algorithm=algorithm))], tmp_path)
    assert 0 < seconds_left(training, tmp_path, CPU) < 60


def test_what_a_measure_takes_is_tried_on_one_task(maml, tmp_path, monkeypatch):
    tried: list[Measure] = []
    monkeypatch.setattr(estimates, "_task", lambda measure, _: tried.append(measure) or 0.5)
    asked: dict[Measure, float] = {
        Accuracy(maml, frozen=1): 1.5,
        Accuracy(other(maml), frozen=1, at=2): 1.5,
        Accuracy(maml, at=2, episodes=10): 5,
        Change(maml, 7): 3.5,
        Resemblance(maml, other(maml), 2): 1,
        Timing(maml, "training", 100): 50,
        Timing(maml, "inference", 10): 5,
        Accuracy(maml): 0,  # the run's own test
        Accuracy(maml, nil=True): 0,
        Curves(maml): 0,
    }
    assert {measure: answer_seconds(measure, tmp_path, CPU) for measure in asked} == asked
    assert len(tried) == 6, "seeds take the same time"


def test_every_kind_of_measure_can_be_tried(maml, tmp_path):
    nil, anil = replace(maml, algorithm="nil"), replace(maml, algorithm="anil")
    for measure in (*questions(maml), Accuracy(nil, nil=True, shot=2), Resemblance(maml, anil, 1), Change(anil, 2)):
        assert answer_seconds(measure, tmp_path, CPU) < 10
    for what in ("training", "inference"):
        assert answer_seconds(Timing(maml, what, 2), tmp_path, CPU) > 0


def test_a_timing_is_of_one_device(maml, tmp_path, carry, monkeypatch):
    timing = Timing(maml, "inference", 1)
    assert carry([timing], tmp_path).computed == [timing]
    assert carry([timing], tmp_path).computed == []
    monkeypatch.setattr(campaign, "device_name", lambda _: "another")
    assert carry([timing], tmp_path).computed == [timing], "a store that moved has the old machine's times"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "a minute"), (89, "a minute"), (100, "2 min"), (3600, "60 min"), (7190, "120 min"), (12_600, "3.5 h")],
)
def test_durations_for_people(seconds, said):
    assert duration(seconds) == said
