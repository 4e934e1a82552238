"""The questions about few-shot networks, answered on small trained runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from innerloop import NIL, Score, anil, evaluate
from innerloop.algorithms import InnerLoop
from innerloop.data import load
from innerloop.experiments.answers import answer, find
from innerloop.experiments.few_shot import Accuracy, Curves, Likeness, Movement, Scored, Timing
from innerloop.experiments.lab import Lab
from innerloop.experiments.questions import Question, name_of
from innerloop.predictors import Predictor
from innerloop.reuse import adaptation as analysis
from innerloop.runs import images
from innerloop.runs.config import Spec
from innerloop.runs.images import train_images
from innerloop.runs.load import load as load_run
from innerloop.runs.means import Compute, Source

CPU = Compute(device="cpu")
BODY = ("block1", "block2", "block3", "block4")


class Trained:
    """A store with small runs that differ in their algorithm alone."""

    def __init__(self, folder: Path) -> None:
        data = tiny.pictures(folder / "shapes", each=18)  # 15 queries and up to 3 shots a class
        self.store, self.splits = folder / "store", load(data, size=20)
        self.maml = Spec().where(
            data=str(data), algorithm="maml", way=3, shot=1, query=2, meta_batch=2, steps=2, lr=0.4, meta_lr=3e-3,
            width=4, size=20, pooling="stride", iterations=6, keep=2, log_every=2, val_every=3, val_episodes=4,
            test_episodes=6, test_query=4, test_steps=3,
        )  # fmt: skip
        self.other = self.maml.where(seed=1)
        self.anil, self.nil = self.maml.where(algorithm="anil"), self.maml.where(algorithm="nil")
        self.multiclass = self.maml.where(algorithm="multiclass", test_query=None)
        for run in (self.maml, self.other, self.anil, self.nil, self.multiclass):
            train_images(run, self.store / run.name, CPU)

    def ask(self, question: Question) -> Any:
        kept = answer(question, Lab(self.store, lambda _: (CPU, Source())))
        assert "CPU" in kept.device
        assert kept.seconds >= 0
        assert find(question, self.store) == kept, "as it is kept"
        return kept.answer

    def test(self, run: Spec, predictor: Predictor, *, shot: int | None = None, query: int = 4) -> Scored:
        """With the network that validation chose, on the run's test episodes."""
        problem = replace(run.problem, shot=shot or run.problem.shot)
        stream = images.test_stream(self.splits.test, problem, problem.test_episodes, query)
        return score_of(evaluate(load_run(self.store / run.name).model, stream, predictor))


def score_of(score: Score) -> Scored:
    return Scored(score.mean, score.interval, score.values.shape[1], score.statistics)


def kept_score(score: dict[str, Any]) -> Scored:
    return Scored(score["accuracy"], score["interval"], score["episodes"], score["statistics"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(folder / "cache"))
        return Trained(folder)


# Accuracy


def test_no_frozen_layer_is_plain_evaluation(trained):
    plain = json.loads((trained.store / trained.maml.name / "result.json").read_text())["test"]
    assert trained.ask(Accuracy(trained.maml, frozen=0)) == kept_score(plain["maml"])
    assert trained.ask(Accuracy(trained.maml, nil=True)) == kept_score(plain["nil"])
    assert trained.ask(Accuracy(trained.maml)) == trained.test(trained.maml, trained.maml.inner.test_rule())


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
    found = trained.ask(Accuracy(trained.maml, at=2))
    learner = load_run(trained.store / trained.maml.name / "at-2.safetensors")
    stream = images.test_stream(trained.splits.test, trained.maml.problem, 6, 4)
    assert learner.metadata["iteration"] == 2
    assert found == score_of(evaluate(learner.model, stream, trained.maml.inner.test_rule()))


def test_another_shot_than_in_the_training(trained):
    """Without queries of its own the test has as many as shots."""
    found = trained.ask(Accuracy(trained.multiclass, nil=True, shot=3))
    assert found == trained.test(trained.multiclass, NIL(way=3), shot=3, query=3)
    plain = trained.ask(Accuracy(trained.multiclass, nil=True))
    assert plain == trained.test(trained.multiclass, NIL(way=3), query=1)


# How layers change


def test_layers_that_do_not_adapt_do_not_change(trained):
    found = trained.ask(Movement(trained.anil, 3))
    for layer in BODY:
        assert found.cca[layer] == pytest.approx(1, abs=1e-6)
        assert found.cka[layer] == pytest.approx(1, abs=1e-6)
        assert found.distance[layer] == 0
    assert found.distance["head"] > 0.01
    assert found.tasks == 3


def test_maml_changes_every_layer(trained):
    found = trained.ask(Movement(trained.maml, 3))
    assert set(found.cca) == set(found.cka) == set(found.distance) == {*BODY, "head"}
    assert all(value > 0 for value in found.distance.values())
    assert all(0 <= value < 1 for value in found.cca.values())
    assert found.points == {"block1": 4500, "block2": 1125, "block3": 405, "block4": 180, "head": 45}


def test_change_over_training(trained):
    first, kept, chosen = (trained.ask(Movement(trained.maml, 2, at=at)) for at in (0, 6, None))
    model = trained.maml.build((3, 20, 20))
    stream = trained.splits.test.episodes(3, 1, 15, count=2)
    assert first == analysis.change(model, stream, trained.maml.inner.test_rule())
    assert first.cca != kept.cca
    best_at = load_run(trained.store / trained.maml.name).metadata["iteration"]
    assert (kept == chosen) == (best_at == 6)


# Networks with one another


def test_a_network_resembles_itself(trained):
    found = trained.ask(Likeness(trained.maml, trained.maml, 3))
    change = trained.ask(Movement(trained.maml, 3))
    for kind in ("cca", "cka"):
        assert list(getattr(found, kind)) == ["pre-pre", "pre-post", "post-pre", "post-post"]
        assert getattr(found, kind)["pre-pre"] == pytest.approx(dict.fromkeys((*BODY, "head"), 1), abs=1e-6)
        assert getattr(found, kind)["post-post"] == pytest.approx(dict.fromkeys((*BODY, "head"), 1), abs=1e-6)
        assert getattr(found, kind)["pre-post"] == pytest.approx(getattr(change, kind)), "which is how far it changes"
        assert getattr(found, kind)["post-pre"] == pytest.approx(getattr(change, kind))


def test_two_seeds_resemble_each_other_less(trained):
    found = trained.ask(Likeness(trained.maml, trained.other, 2))
    assert all(0 < value < 0.999 for value in found.cca["pre-pre"].values())
    back = trained.ask(Likeness(trained.other, trained.maml, 2))
    assert back.cca["post-pre"] == pytest.approx(found.cca["pre-post"])


@pytest.mark.parametrize("other", ["anil", "nil", "multiclass"])
def test_without_an_inner_loop_in_common_networks_are_compared_before_it(trained, other):
    found = trained.ask(Likeness(getattr(trained, other), trained.maml, 2))
    for kind in ("cca", "cka"):
        assert list(getattr(found, kind)) == ["pre-pre"]
        assert set(getattr(found, kind)["pre-pre"]) == set(BODY), "heads need not have as many outputs"


# Curves and times


def test_curves_are_those_of_the_run(trained):
    path = trained.store / trained.maml.name / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = trained.ask(Curves(trained.maml))
    assert found.iteration == [2, 4, 6]
    assert found.val_iteration == [3, 6]
    seen = list(zip(found.iteration, found.loss, found.accuracy, strict=True))
    assert seen == [(line["iteration"], line["loss"], line["accuracy"]) for line in lines if "loss" in line]
    assert found.val_accuracy == [line["val_accuracy"] for line in lines if "val_accuracy" in line]


@pytest.mark.parametrize("what", ["training", "inference"])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
def test_timing_needs_no_run_and_no_data(trained, tmp_path, what, algorithm):
    question = Timing(trained.maml.where(data="omniglot", algorithm=algorithm), what, 3)
    kept = answer(question, Lab(tmp_path, lambda _: (CPU, Source("nowhere"))))
    assert question.runs == ()
    assert kept.answer.mean > 0
    assert kept.answer.median > 0
    assert kept.answer.batches == 3
    assert kept.answer.device == kept.device


def test_a_run_that_is_not_trained_is_named(trained):
    absent = trained.maml.where(seed=7)
    with pytest.raises(FileNotFoundError, match=absent.name):
        trained.ask(Accuracy(absent))
    with pytest.raises(FileNotFoundError, match=r"at-5\.safetensors"):
        trained.ask(Movement(trained.maml, 2, at=5))
    assert find(Accuracy(absent), trained.store) is None


def test_damaged_metrics_are_named(trained, tmp_path):
    store = Path(shutil.copytree(trained.store, tmp_path / "store"))
    path = store / trained.maml.name / "metrics.jsonl"
    path.write_bytes(b"\xff\x00" + path.read_bytes())
    with pytest.raises(ValueError, match=f"{path} is damaged .*: delete the run's folder to train it again"):
        answer(Curves(trained.maml), Lab(store, lambda _: (CPU, Source())))


def test_names_do_not_depend_on_defaults(trained):
    assert name_of(Accuracy(trained.maml)) == name_of(Accuracy(trained.maml, frozen=0, nil=False, at=None))
    assert name_of(Accuracy(trained.maml)) != name_of(Accuracy(trained.maml, nil=True))
    assert name_of(Accuracy(trained.maml)) != name_of(Accuracy(trained.other))
    assert name_of(Movement(trained.maml, 3)).startswith("movement-")
