"""What is measured on trained networks, and the files that hold the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from innerloop import NIL, anil, evaluate
from innerloop.algorithms import InnerLoop
from innerloop.data import Splits, load
from innerloop.experiments.answers import compute, find
from innerloop.experiments.questions import Accuracy, Change, Curves, Measure, Resemblance, Timing, name_of
from innerloop.predictors import Predictor
from innerloop.reuse import adaptation as analysis
from innerloop.runs import execute
from innerloop.runs.config import Spec, as_dict
from innerloop.runs.execute import How, score_dict, train
from innerloop.runs.load import load_learner

CPU = How(device="cpu")
BODY = ("block1", "block2", "block3", "block4")
ABOUT = {"device", "seconds"}  # what an answer says of how it was found


class Trained:
    """A store with small runs that differ in their algorithm alone."""

    def __init__(self, folder: Path) -> None:
        data = tiny.pictures(folder / "shapes", each=18)  # 15 queries and up to 3 shots a class
        self.store, self.splits = folder / "store", load(data, size=20)
        self.maml = Spec(
            data=str(data), algorithm="maml", way=3, shot=1, query=2, tasks=2, steps=2, lr=0.4, meta_lr=3e-3, width=4,
            size=20, pooling="stride", iterations=6, keep=2, log_every=2, val_every=3, val_episodes=4, test_episodes=6,
            test_query=4, test_steps=3,
        )  # fmt: skip
        self.other = replace(self.maml, seed=1)
        self.anil, self.nil = replace(self.maml, algorithm="anil"), replace(self.maml, algorithm="nil")
        self.multiclass = replace(self.maml, algorithm="multiclass", test_query=None)
        for run in (self.maml, self.other, self.anil, self.nil, self.multiclass):
            train(run, self.store / run.name, CPU)

    def ask(self, measure: Measure) -> dict[str, Any]:
        answer = compute(measure, self.store, self.banks, CPU)
        assert set(answer) > ABOUT
        return {key: value for key, value in answer.items() if key not in ABOUT}

    def banks(self, _: Spec) -> Splits:
        return self.splits

    def test(self, run: Spec, predictor: Predictor, *, shot: int | None = None, query: int = 4) -> dict[str, Any]:
        """With the network that validation chose, on the run's test episodes."""
        stream = execute.test_stream(self.splits.test, replace(run, shot=shot or run.shot), run.test_episodes, query)
        return last_step(score_dict(evaluate(load_learner(self.store / run.name).model, stream, predictor)))


def last_step(score: dict[str, Any]) -> dict[str, Any]:
    """The accuracies after the steps before go: an answer has none of them."""
    return {key: value for key, value in score.items() if key != "per_step"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(folder / "cache"))
        return Trained(folder)


# Accuracy


def test_no_frozen_layer_is_plain_evaluation(trained):
    plain = json.loads((trained.store / trained.maml.name / "result.json").read_text())["test"]
    assert trained.ask(Accuracy(trained.maml, frozen=0)) == last_step(plain["maml"])
    assert trained.ask(Accuracy(trained.maml, nil=True)) == last_step(plain["nil"])
    assert trained.ask(Accuracy(trained.maml)) == trained.test(trained.maml, trained.maml.test_rule())


def test_all_frozen_but_the_head_is_anil_on_the_same_weights(trained):
    frozen = trained.ask(Accuracy(trained.maml, frozen=4))
    assert frozen == trained.test(trained.maml, anil(steps=3, lr=0.4))
    assert frozen != trained.ask(Accuracy(trained.maml, frozen=0))


def test_frozen_layers_are_the_first(trained):
    by_hand = InnerLoop(("*", "!*norm*", "!block1.*", "!block2.*"), 3, 0.4)
    assert trained.ask(Accuracy(trained.maml, frozen=2)) == trained.test(trained.maml, by_hand)


def test_freezing_an_anil_network_changes_nothing(trained):
    answers = [trained.ask(Accuracy(trained.anil, frozen)) for frozen in range(5)]
    assert all(answer == answers[0] for answer in answers)


def test_accuracy_of_a_kept_checkpoint(trained):
    answer = trained.ask(Accuracy(trained.maml, at=2))
    learner = load_learner(trained.store / trained.maml.name / "at-2.safetensors")
    stream = execute.test_stream(trained.splits.test, trained.maml, 6, 4)
    assert learner.metadata["iteration"] == 2
    assert answer == last_step(score_dict(evaluate(learner.model, stream, trained.maml.test_rule())))


def test_another_shot_than_in_the_training(trained):
    """Without queries of its own the test has as many as shots."""
    answer = trained.ask(Accuracy(trained.multiclass, nil=True, shot=3))
    assert answer == trained.test(trained.multiclass, NIL(way=3), shot=3, query=3)
    plain = trained.ask(Accuracy(trained.multiclass, nil=True))
    assert plain == trained.test(trained.multiclass, NIL(way=3), query=1)


# How layers change


def test_layers_that_do_not_adapt_do_not_change(trained):
    answer = trained.ask(Change(trained.anil, 3))
    for layer in BODY:
        assert answer["cca"][layer] == pytest.approx(1, abs=1e-6)
        assert answer["cka"][layer] == pytest.approx(1, abs=1e-6)
        assert answer["distance"][layer] == 0
    assert answer["distance"]["head"] > 0.01
    assert answer["tasks"] == 3


def test_maml_changes_every_layer(trained):
    answer = trained.ask(Change(trained.maml, 3))
    assert set(answer["cca"]) == set(answer["cka"]) == set(answer["distance"]) == {*BODY, "head"}
    assert all(value > 0 for value in answer["distance"].values())
    assert all(0 <= value < 1 for value in answer["cca"].values())
    assert answer["points"] == {"block1": 4500, "block2": 1125, "block3": 405, "block4": 180, "head": 45}


def test_change_over_training(trained):
    first, kept, chosen = (trained.ask(Change(trained.maml, 2, at=at)) for at in (0, 6, None))
    model = trained.maml.build((3, 20, 20))
    stream = trained.splits.test.episodes(3, 1, 15, count=2)
    assert first == asdict(analysis.change(model, stream, trained.maml.test_rule()))
    assert first["cca"] != kept["cca"]
    best_at = load_learner(trained.store / trained.maml.name).metadata["iteration"]
    assert (kept == chosen) == (best_at == 6)


# Networks with one another


def test_a_network_resembles_itself(trained):
    answer = trained.ask(Resemblance(trained.maml, trained.maml, 3))
    change = trained.ask(Change(trained.maml, 3))
    for kind in ("cca", "cka"):
        assert list(answer[kind]) == ["pre-pre", "pre-post", "post-pre", "post-post"]
        assert answer[kind]["pre-pre"] == pytest.approx(dict.fromkeys((*BODY, "head"), 1), abs=1e-6)
        assert answer[kind]["post-post"] == pytest.approx(dict.fromkeys((*BODY, "head"), 1), abs=1e-6)
        assert answer[kind]["pre-post"] == pytest.approx(change[kind]), "which is how far it changes"
        assert answer[kind]["post-pre"] == pytest.approx(change[kind])


def test_two_seeds_resemble_each_other_less(trained):
    answer = trained.ask(Resemblance(trained.maml, trained.other, 2))
    assert all(0 < value < 0.999 for value in answer["cca"]["pre-pre"].values())
    back = trained.ask(Resemblance(trained.other, trained.maml, 2))
    assert back["cca"]["post-pre"] == pytest.approx(answer["cca"]["pre-post"])


@pytest.mark.parametrize("other", ["anil", "nil", "multiclass"])
def test_without_an_inner_loop_in_common_networks_are_compared_before_it(trained, other):
    answer = trained.ask(Resemblance(getattr(trained, other), trained.maml, 2))
    for kind in ("cca", "cka"):
        assert list(answer[kind]) == ["pre-pre"]
        assert set(answer[kind]["pre-pre"]) == set(BODY), "heads need not have as many outputs"


# Curves and times


def test_curves_are_those_of_the_run(trained):
    path = trained.store / trained.maml.name / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    answer = trained.ask(Curves(trained.maml))
    assert answer["iteration"] == [2, 4, 6]
    assert answer["val_iteration"] == [3, 6]
    seen = list(zip(answer["iteration"], answer["loss"], answer["accuracy"], strict=True))
    assert seen == [(line["iteration"], line["loss"], line["accuracy"]) for line in lines if "loss" in line]
    assert answer["val_accuracy"] == [line["val_accuracy"] for line in lines if "val_accuracy" in line]


@pytest.mark.parametrize("what", ["training", "inference"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
def test_timing_needs_no_run_and_no_data(trained, tmp_path, what, algorithm):
    measure = Timing(replace(trained.maml, algorithm=algorithm), what, 3)
    answer = compute(measure, tmp_path, lambda _: pytest.fail("it reads the data"), CPU)
    assert measure.runs == ()
    assert answer["mean"] > 0
    assert answer["median"] > 0
    assert answer["batches"] == 3


# Answers as files


MEASURES: dict[str, Callable[[Trained], Measure]] = {
    "accuracy": lambda trained: Accuracy(trained.maml, frozen=1),
    "change": lambda trained: Change(trained.maml, 2),
    "resemblance": lambda trained: Resemblance(trained.maml, trained.other, 1),
    "curves": lambda trained: Curves(trained.anil),
    "timing": lambda trained: Timing(trained.maml, "inference", 1),
}


@pytest.mark.parametrize("kind", MEASURES)
def test_an_answer_is_found_as_it_was_given(kind, trained):
    measure = MEASURES[kind](trained)
    (trained.store / "measured" / f"{name_of(measure)}.json").unlink(missing_ok=True)
    assert find(measure, trained.store) is None
    answer = compute(measure, trained.store, trained.banks, CPU)
    assert find(measure, trained.store) == answer
    assert answer["seconds"] >= 0
    assert "CPU" in answer["device"]
    kept = json.loads((trained.store / "measured" / f"{name_of(measure)}.json").read_text())
    assert kept["question"]["kind"].lower() == kind
    assert as_dict(trained.anil if kind == "curves" else trained.maml) in kept["question"].values()


@pytest.mark.parametrize(
    "damage", [b"", b'{"answer": {"accuracy": 0.5', b'{"question": {}}', b"[]", b'"answer"', b"\xff\x00\xfe", b"null"]
)
def test_a_damaged_answer_is_named(damage, trained, tmp_path):
    measure = Accuracy(trained.maml)
    path = tmp_path / "measured" / f"{name_of(measure)}.json"
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"is damaged .*; delete it and run again") as error:
        find(measure, tmp_path)
    assert str(error.value).startswith(str(path))


def test_a_run_that_is_not_trained_is_named(trained):
    absent = replace(trained.maml, seed=7)
    with pytest.raises(FileNotFoundError, match=absent.name):
        trained.ask(Accuracy(absent))
    with pytest.raises(FileNotFoundError, match=r"at-5\.safetensors"):
        trained.ask(Change(trained.maml, 2, at=5))
    assert find(Accuracy(absent), trained.store) is None
