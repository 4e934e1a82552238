"""Plans carried out: nothing is trained or answered twice, whatever stops it, and nothing is mixed up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from innerloop.experiments import claims, lab, plan
from innerloop.experiments.answers import find, path_of
from innerloop.experiments.claims import Claims
from innerloop.experiments.executors import here
from innerloop.experiments.executors.here import BUSY, carry_out
from innerloop.experiments.few_shot import Accuracy, Curves, Likeness, Movement, Timing
from innerloop.experiments.plan import trainings
from innerloop.experiments.questions import Question, name_of
from innerloop.outer import meta_train
from innerloop.runs import images
from innerloop.runs.config import Spec
from innerloop.runs.folder import claimed
from innerloop.runs.means import Compute, Source
from innerloop.runs.schedule import Interrupted

CPU = Compute(device="cpu")


@pytest.fixture(scope="module")
def maml(tmp_path_factory) -> Spec:
    data = tiny.pictures(tmp_path_factory.mktemp("plan") / "shapes", each=16)
    return Spec().where(
        data=str(data), algorithm="maml", way=3, shot=1, query=2, meta_batch=2, steps=1, lr=0.4, width=4, size=20,
        pooling="stride", iterations=4, keep=2, log_every=1, val_every=2, val_episodes=2, test_episodes=3,
        test_query=2, test_steps=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_cache(maml, monkeypatch):
    """The pictures are decoded once for all tests here."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(Path(maml.problem.data).parent / "cache"))


def other(maml: Spec) -> Spec:
    return maml.where(seed=1)


def questions(maml: Spec) -> list[Question]:
    """Two runs, and what is asked of one, of the other, and of both."""
    return [Accuracy(maml), Accuracy(maml, frozen=4), Movement(other(maml), 1, at=2), Curves(maml),
            Likeness(maml, other(maml), 1)]  # fmt: skip


class Told(list[str]):
    """What an executor said, did and missed."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[Spec] = []
        self.answered: list[Question] = []
        self.missing: dict[Question, str] = {}


@pytest.fixture
def carry(monkeypatch):
    """Carries asked out in a store and tells what was done."""
    real = {"train": here.train, "answer": here.answer}

    def carried(asked: Sequence[Question], store: Path, source: Path | None = None) -> Told:
        told = Told()

        def train(spec: Spec, *rest: Any) -> Any:
            told.trained.append(spec)
            return real["train"](spec, *rest)

        def answer(question: Question, *rest: Any) -> Any:
            told.answered.append(question)
            return real["answer"](question, *rest)

        monkeypatch.setattr(here, "train", train)
        monkeypatch.setattr(here, "answer", answer)
        told.missing = carry_out(
            asked, store, lambda spec: (CPU, Source(source if spec.problem.data == "omniglot" else None)), told.append
        )
        return told

    return carried


def answers(asked: Sequence[Question], store: Path) -> list[Any]:
    """Without the time that it took."""
    found = [find(question, store) for question in asked]
    assert None not in found
    return [(kept.answer, kept.device) for kept in found if kept]


@pytest.fixture(scope="module")
def whole(maml, tmp_path_factory) -> Path:
    """A store that nothing disturbed."""
    store = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(Path(maml.problem.data).parent / "cache"))
        assert carry_out(questions(maml), store, lambda _: (CPU, Source()), lambda _: None) == {}
    return store


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


# Once and no more


def test_everything_is_made_once(maml, tmp_path, carry):
    asked, store = questions(maml), tmp_path / "store"
    told = carry([*asked, asked[0]], store)
    assert told.missing == {}
    assert told.trained == [maml, other(maml)]
    assert sorted(map(name_of, told.answered)) == sorted(map(name_of, asked))
    assert told.answered[:3] == [asked[0], asked[1], asked[3]], "as soon as its runs are there"
    assert told[0] == "5 of 5 questions and 2 of the 2 runs they need are left"
    assert told[1] == f"training {maml.name}: 2 runs left, unknown"
    assert told[2].startswith(f"training {other(maml).name}: 1 run left, about a minute")
    assert len(told) == 3
    assert [training.finished for training in trainings(asked, store)] == [True, True]

    again = carry(asked, store)
    assert (again.trained, again.answered, again.missing) == ([], [], {})
    assert again == ["0 of 5 questions and 0 of the 2 runs they need are left"]


def test_a_new_question_trains_nothing_that_is_there(maml, copied, carry):
    anil = maml.where(algorithm="anil")
    told = carry([*questions(maml), Accuracy(maml, nil=True), Likeness(anil, maml, 1)], copied)
    assert told.trained == [anil]
    assert told.answered == [Accuracy(maml, nil=True), Likeness(anil, maml, 1)]


def test_a_deleted_answer_is_computed_again_and_nothing_else(maml, whole, copied, carry):
    asked = questions(maml)
    gone = asked[2]
    (copied / "measured" / f"{name_of(gone)}.json").unlink()
    told = carry(asked, copied)
    assert (told.trained, told.answered) == ([], [gone])
    assert answers(asked, copied) == answers(asked, whole)


@pytest.mark.parametrize("what", ["folder", "result"])
def test_a_deleted_run_is_trained_again_once_an_answer_needs_it(what, maml, whole, copied, carry):
    asked = questions(maml)
    if what == "folder":
        shutil.rmtree(copied / maml.name)
    else:
        (copied / maml.name / "result.json").unlink()
    assert [(training.finished, training.needed) for training in trainings(asked, copied)] == [
        (False, False),
        (True, False),
    ]
    assert carry(asked, copied).trained == []
    path_of(asked[0], copied).unlink()
    told = carry(asked, copied)
    assert (told.trained, told.answered, told.missing) == ([maml], [asked[0]], {})
    tiny.same_run(copied / maml.name, whole / maml.name)
    assert carry(asked, copied).trained == []


@pytest.mark.parametrize("lost", ["at-{}.safetensors"])
def test_a_run_that_lost_a_checkpoint_says_what_to_delete(lost, maml, copied, carry):
    asked = [Accuracy(maml, frozen=1), Accuracy(maml, frozen=1, at=maml.schedule.keep)]
    for question in asked:
        path_of(question, copied).unlink(missing_ok=True)
    (copied / maml.name / lost.format(maml.schedule.keep)).unlink()
    missing = carry(asked, copied).missing
    (why,) = missing.values()
    name = lost.format(maml.schedule.keep)
    assert f"is a finished run without its {name}: move the folder away to have it trained again" in why
    shutil.rmtree(copied / maml.name)
    told = carry(asked, copied)
    assert (told.trained, told.missing) == ([maml], {})


@pytest.mark.parametrize("damage", ["{", "{}"])
def test_a_damaged_result_is_named_and_holds_up_no_other(damage, maml, copied, carry):
    asked, result = [Accuracy(maml), Accuracy(other(maml), frozen=1)], copied / maml.name / "result.json"
    for question in asked:
        path_of(question, copied).unlink(missing_ok=True)
    result.write_text(damage)
    told = carry(asked, copied)
    assert told.answered == [asked[1]]
    assert told.missing[asked[0]].startswith(f"{result} is damaged")
    result.unlink()
    again = carry(asked, copied)
    assert (again.trained, again.answered, again.missing) == ([maml], [asked[0]], {})


def test_a_damaged_answer_holds_up_no_other(maml, whole, copied, carry):
    asked = questions(maml)
    paths = [path_of(question, copied) for question in asked]
    paths[0].write_text("{")
    paths[2].unlink()
    told = carry(asked, copied)
    assert (told.trained, told.answered) == ([], [asked[2]])
    assert list(told.missing) == [asked[0]]
    assert told.missing[asked[0]].startswith(f"{paths[0]} is damaged")
    assert paths[0].read_text() == "{", "whoever wrote it may want to look"
    paths[0].unlink()
    assert carry(asked, copied).answered == [asked[0]]
    assert answers(asked, copied) == answers(asked, whole)


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

        self.patch.setattr(images, "meta_train", steps)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize(
    ("training", "how"), [(1, signal.SIGTERM), (2, signal.SIGINT), (2, KeyboardInterrupt)], ids=str
)
def test_stopped_in_a_training_it_goes_on_to_the_same_answers(training, how, maml, whole, tmp_path, carry):
    asked, store = questions(maml), tmp_path / "store"
    gently = isinstance(how, signal.Signals)
    with stopped(training, how), pytest.raises(Interrupted if gently else KeyboardInterrupt):
        carry(asked, store)
    left = trainings(asked, store)[training - 1]
    assert left.done == (3 if gently else 2), "where it was asked to stop, or at its last validation"
    assert not left.finished
    told = carry(asked, store)
    assert told.trained == [maml, other(maml)][training - 1 :]
    assert told.missing == {}
    assert answers(asked, store) == answers(asked, whole)
    for run in (maml, other(maml)):
        tiny.same_run(store / run.name, whole / run.name)


def test_stopped_between_answers_it_computes_the_others(maml, whole, copied, carry, monkeypatch):
    asked = questions(maml)
    shutil.rmtree(copied / "measured")
    real = here.answer

    def interrupted(question: Question, *_: Any) -> Any:
        if isinstance(question, Movement):
            raise KeyboardInterrupt
        return real(question, *_)

    monkeypatch.setattr(here, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(asked, copied, lambda _: (CPU, Source()), lambda _: None)
    monkeypatch.setattr(here, "answer", real)
    told = carry(asked, copied)
    assert (told.trained, told.answered) == ([], asked[2:])
    assert answers(asked, copied) == answers(asked, whole)


# What cannot be done now


def test_a_run_that_another_process_trains_is_left_to_it(maml, tmp_path, carry):
    asked, store = questions(maml), tmp_path / "store"
    with claimed(store / maml.name, maml.as_json()):
        told = carry(asked, store)
    assert told.missing == dict.fromkeys([asked[0], asked[1], asked[3], asked[4]], BUSY)
    assert told.answered == [asked[2]]
    again = carry(asked, store)
    assert again.trained == [maml]
    assert again.missing == {}


def test_what_another_process_holds_is_left_to_it_as_long_as_it_lives(maml, whole, copied, carry, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 0.6)
    asked = questions(maml)
    shutil.rmtree(copied / "measured")
    with Claims(copied).held(name_of(asked[1])) as mine:
        assert mine
        told = carry(asked, copied)
    assert told.missing == {asked[1]: BUSY}
    assert told.answered == [asked[0], *asked[2:]]
    assert carry(asked, copied).answered == [asked[1]]
    assert answers(asked, copied) == answers(asked, whole)


def test_what_another_process_left_while_we_watched_is_taken_up(maml, copied, carry, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 6.0)
    asked = [Accuracy(maml, frozen=1)]
    holder = Claims(copied).held(name_of(asked[0]))
    assert holder.__enter__()
    done = threading.Timer(0.4, holder.__exit__, (None, None, None))
    done.start()
    assert carry(asked, copied).answered == asked
    done.join()


def test_a_missing_data_set_costs_its_own_questions_alone(maml, tmp_path, carry):
    absent = maml.where(data="omniglot", split="reference", size=20)
    asked = [Accuracy(absent), Accuracy(maml), Movement(absent, 1), Timing(absent, "inference", 1)]
    told = carry(asked, tmp_path / "store", source=tmp_path / "nowhere")
    assert set(told.missing) == {Accuracy(absent), Movement(absent, 1)}
    assert set(told.answered) == {Accuracy(maml), Timing(absent, "inference", 1)}
    (why,) = set(told.missing.values())
    assert "nowhere" in why
    assert "\n" not in why
    assert f"left out: {why}" in told


def test_a_data_set_that_went_missing_after_the_training(maml, copied, carry, monkeypatch):
    def gone(*_: Any) -> Any:
        raise FileNotFoundError("the disk\nis gone")

    monkeypatch.setattr(lab, "open_data", gone)
    told = carry([Accuracy(maml, frozen=1), Curves(other(maml))], copied)
    assert told.missing == {Accuracy(maml, frozen=1): "the disk is gone"}
    assert find(Curves(other(maml)), copied), "which needs no images"


def test_a_head_whose_body_is_missing(maml, tmp_path, carry):
    head = maml.where(algorithm="anil", body=maml.name, keep=0)
    told = carry([Accuracy(head)], tmp_path / "alone")
    assert list(told.missing) == [Accuracy(head)]
    assert f"there is no checkpoint {maml.name}" in told.missing[Accuracy(head)]

    both = carry([Accuracy(head), Accuracy(maml)], tmp_path / "both")
    assert both.trained == [maml, head], "bodies first, however they are asked for"
    assert both.missing == {}


def test_a_device_that_is_not_there_is_said_at_once(maml, tmp_path):
    with pytest.raises(ValueError, match="no device 'cuda:99' here"):
        carry_out(questions(maml), tmp_path, lambda _: (Compute(device="cuda:99"), Source()), lambda _: None)


# Settings


def test_settings_do_not_mix_in_one_store(maml, whole, copied, carry):
    longer = maml.where(iterations=6)
    told = carry([*questions(maml), *questions(longer)], copied)
    assert told.trained == [longer, other(longer)]
    assert told.answered == [question for question in told.answered if question.subject.schedule.iterations == 6]
    assert len(told.answered) == 5
    for run in (maml, other(maml)):
        tiny.same_run(copied / run.name, whole / run.name)
    assert answers(questions(maml), copied) == answers(questions(maml), whole)
    for run in (maml, longer):
        assert json.loads((copied / run.name / "spec.json").read_text()) == run.as_json()
        kept = json.loads((copied / "measured" / f"{name_of(Accuracy(run))}.json").read_text())
        assert kept["question"]["run"] == run.as_json()
        assert find(Curves(run), copied)
    assert find(Accuracy(longer), whole) is None


def test_a_timing_is_of_one_device(maml, tmp_path, carry, monkeypatch):
    timing = Timing(maml, "inference", 1)
    assert carry([timing], tmp_path).answered == [timing]
    assert carry([timing], tmp_path).answered == []
    monkeypatch.setattr(plan, "device_name", lambda _: "another")
    assert carry([timing], tmp_path).answered == [timing], "a store that moved has the old machine's times"
