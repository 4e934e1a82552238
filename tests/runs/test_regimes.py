"""The training regimes: what each of them trains, on what, and what is left for the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import oracle
import pytest
import torch
import torch.nn.functional as F
from cases import close
from PIL import Image
from tiny import call, complaint, few_scripts, same_run, tensors

from innerloop.data import Splits
from innerloop.data.episodes import LabelledStream
from innerloop.outer import meta_gradient, meta_train
from innerloop.predictors import features
from innerloop.runs import images, trainer
from innerloop.runs.config import Algorithm, Spec
from innerloop.runs.images import train_images, training_stream
from innerloop.runs.load import load
from innerloop.runs.means import Compute, Source
from innerloop.runs.schedule import Interrupted
from innerloop.runs.sources import open_data
from innerloop.tasks import Episodes

TINY = Spec().where(
    way=3, query=2, test_query=2, meta_batch=2, steps=2, test_steps=3, lr=0.4, width=4, size=14, pooling="stride",
    spatial_mean=True, iterations=7, log_every=2, val_every=3, val_episodes=4, test_episodes=6,
)  # fmt: skip
CPU = Compute(device="cpu")
WITHOUT = ("nil", "multitask", "multiclass")  # an inner loop


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def few_glyphs(cache, monkeypatch) -> None:
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))
    few_scripts(monkeypatch)


@pytest.fixture(scope="module")
def store(cache, tmp_path_factory) -> Path:
    """A folder with a run of each algorithm, under the algorithm's name."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(cache))
        few_scripts(patch)
        for algorithm in get_args(Algorithm):
            train_images(TINY.where(algorithm=algorithm), folder / algorithm, CPU)
    return folder


def banks() -> Splits:
    return open_data(TINY.problem, Source())


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def batch(tasks: int = 3) -> Episodes:
    """In float64."""
    drawn = banks().train.episodes(3, 2, 4, tasks=tasks, count=1)[0]
    return drawn._replace(support_x=drawn.support_x.double(), query_x=drawn.query_x.double())


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


# What each trains


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_every_algorithm_trains_validates_and_is_tested(algorithm, store):
    run = store / algorithm
    result = json.loads((run / "result.json").read_text())
    assert list(result["test"]) == (["nil"] if algorithm in WITHOUT else [algorithm, "nil"])
    assert all(0 <= score["accuracy"] <= 1 and score["episodes"] == 6 for score in result["test"].values())
    assert [line["iteration"] for line in lines(run) if "loss" in line] == [2, 4, 6, 7]
    assert [line["iteration"] for line in lines(run) if "val_accuracy" in line] == [3, 6, 7]
    model, spec, shape, metadata = load(run)
    assert (spec, shape) == (TINY.where(algorithm=algorithm), (1, 14, 14))
    assert metadata["iteration"] == result["best_at"]
    start = TINY.build(shape, way=len(model.head.bias)).state_dict()
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert not torch.equal(model.block1.conv.weight, start["block1.conv.weight"])
    assert torch.equal(model.head.weight, start["head.weight"]) == (algorithm == "nil"), "NIL has no head to train"


def test_multiclass_has_an_output_for_every_class(store):
    learner = load(store / "multiclass")
    assert len(learner.model.head.bias) == len(banks().train) > 20
    assert learner.model(torch.rand(2, *learner.shape)).shape == (2, len(banks().train))


def test_multiclass_learns_to_name_the_training_classes(tmp_path):
    more = {"query": 15, "width": 8, "spatial_mean": False}
    spec = TINY.where(algorithm="multiclass", iterations=50, log_every=10, val_every=50, meta_lr=0.01, **more)
    train_images(spec, tmp_path, CPU)
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    classes = len(banks().train)
    assert losses[0] > losses[2] > losses[4]
    assert losses[4] < 0.9 * torch.tensor(classes).log()
    pictures, labels = LabelledStream(banks().train, 400, seed=9)[0][2:]
    right = load(tmp_path).model(pictures[0]).argmax(1) == labels[0]
    assert right.float().mean() > 5 / classes


def test_multiclass_sees_as_many_images_as_the_episodes_hold():
    stream = training_stream(banks().train, TINY.where(algorithm="multiclass"))
    assert isinstance(stream, LabelledStream)
    assert (stream.images, len(stream), stream.seed) == (2 * 3 * (1 + 2), 7, 0)


def test_multitask_is_plain_cross_entropy_on_the_query_images():
    model, episodes = TINY.build((1, 14, 14)).double(), batch()
    loss, accuracy = meta_gradient(model, episodes, TINY.where(algorithm="multitask").inner.predictor(3))
    found = [parameter.grad.clone() for parameter in model.parameters()]
    outputs = [model(x) for x in episodes.query_x]  # task by task, as the norm is
    want = sum(F.cross_entropy(rows, y) for rows, y in zip(outputs, episodes.query_y, strict=True)) / 3
    for grad, expected in zip(found, torch.autograd.grad(want, list(model.parameters())), strict=True):
        close(grad, expected, 1e-12)
    close(loss, want, 1e-12)
    assert accuracy == (torch.stack(outputs).argmax(-1) == episodes.query_y).double().mean().float()


def test_nil_trains_on_its_own_log_probabilities():
    model, episodes = TINY.where(width=16).build((1, 14, 14)).double(), batch()  # no image without a feature
    loss, _ = meta_gradient(model, episodes, TINY.where(algorithm="nil").inner.predictor(3))
    assert model.head.weight.grad is None
    body = [parameter for name, parameter in model.named_parameters() if not name.startswith("head.")]
    found = [parameter.grad.clone() for parameter in body]
    network, want = features(model), 0
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        log_probabilities = oracle.nil(network(support_x), support_y, network(query_x), 3)
        want = want - log_probabilities[range(len(query_y)), query_y].mean() / 3
    for grad, expected in zip(found, torch.autograd.grad(want, body), strict=True):
        close(grad, expected, 1e-10)
    close(loss, want, 1e-10)


# Features as they are


def test_random_features_are_the_first_weights(tmp_path):
    for algorithm in ("maml", "multiclass"):
        spec, out = TINY.where(iterations=0, algorithm=algorithm), tmp_path / algorithm
        result = train_images(spec, out, CPU)
        model = load(out).model
        assert same_weights(model.state_dict(), spec.build((1, 14, 14), way=len(model.head.bias)).state_dict())
        assert [list(line) for line in lines(out)] == [["iteration", "val_accuracy", "val_interval"]]
        assert (result["best_at"], result["selection"]) == (0, "best of 1 validations")
        assert train_images(spec, out, CPU) == result
    assert list(result["test"]) == ["nil"]


def test_random_features_can_be_trained_on(tmp_path, store):
    spec = TINY.where(iterations=0, algorithm="maml")
    train_images(spec, tmp_path, CPU)
    train_images(spec.where(iterations=7), tmp_path, CPU)
    same_run(tmp_path, store / "maml")


@pytest.mark.parametrize("algorithm", ["maml", "anil", "nil", "multitask", "multiclass", "random"])
def test_a_head_is_trained_on_a_frozen_body(algorithm, store):
    if algorithm == "random":
        train_images(TINY.where(iterations=0), store / "random", CPU)
    spec = TINY.where(body=algorithm)
    result = train_images(spec, store / f"head on {algorithm}", CPU)
    assert list(result["test"]) == ["anil", "nil"]
    body, start = tensors(store / algorithm / "best.safetensors"), spec.build((1, 14, 14)).state_dict()
    heads = []
    for name in ("best", "last"):
        found = tensors(store / f"head on {algorithm}" / f"{name}.safetensors")
        found = {key.removeprefix("network."): x for key, x in found.items() if not key.startswith("state.")}
        frozen = {key: value for key, value in found.items() if key != "block" and not key.startswith("head.")}
        assert same_weights(frozen, {key: value for key, value in body.items() if not key.startswith("head.")})
        heads.append(found["head.weight"])
        assert found["head.weight"].shape == start["head.weight"].shape
    assert not torch.equal(heads[1], start["head.weight"])
    by_path = train_images(spec.where(body=str(store / algorithm)), store / f"path {algorithm}", CPU)
    assert by_path["test"] == result["test"], "a run beside it, or a path"


def test_nil_on_a_body_does_not_depend_on_the_head(store):
    body = json.loads((store / "multiclass" / "result.json").read_text())["test"]["nil"]
    result = train_images(TINY.where(body="multiclass"), store / "another head", CPU)
    assert result["test"]["nil"] == body


@pytest.mark.parametrize(
    ("body", "changes", "said"),
    [
        ("nowhere", {}, "there is no checkpoint nowhere; a run's folder holds best.safetensors"),
        ("empty", {}, "empty is not finished, and a head needs its whole body: finish it first"),
        ("maml", {"width": 5}, "belongs to another network: .* first 'block1.norm.weight'"),
        ("maml", {"norm_scale": False}, "belongs to another network: .*not a parameter in the model"),
        ("maml/last.safetensors", {}, "belongs to another network: .* first 'block1"),
    ],
)
def test_a_body_that_is_none_is_named(body, changes, said, store):
    (store / "empty").mkdir(exist_ok=True)
    with pytest.raises((FileNotFoundError, ValueError), match=said):
        train_images(TINY.where(body=body, **changes), store / "fails", CPU)
    assert not (store / "fails").exists()


# Interrupted


class Killed(Exception):
    pass


@pytest.fixture
def ends(monkeypatch):
    """The next training stops on request after a step, or dies after one."""

    def ends(asked: int = 0, killed: int = 0) -> None:
        class Stop:
            asked = False

            def __enter__(self):
                return self

            def __exit__(self, *_: object) -> None:
                pass

        def steps(*arguments, **settings):
            for step in meta_train(*arguments, **settings):
                if step.number == killed:
                    raise Killed
                Stop.asked = step.number == asked
                yield step

        monkeypatch.setattr(trainer, "Stop", Stop)
        monkeypatch.setattr(images, "meta_train", steps)

    return ends


@pytest.mark.parametrize("regime", ["multitask", "multiclass", "nil", "head"])
def test_interrupted_and_resumed_it_ends_in_the_same_bits(regime, store, ends):
    spec = TINY.where(keep=2, **({"body": "maml"} if regime == "head" else {"algorithm": regime}))
    whole, out = store / f"{regime} whole", store / f"{regime} in parts"
    train_images(spec, whole, CPU)
    ends(asked=2)
    with pytest.raises(Interrupted, match="stopped after iteration 2 of 7, saved in"):
        train_images(spec, out, CPU)
    ends(killed=3)  # at iteration 5, saved at 3
    with pytest.raises(Killed):
        train_images(spec, out, CPU)
    assert sorted(path.name for path in out.glob("at-*")) == ["at-2.safetensors", "at-4.safetensors"]
    ends()
    train_images(spec, out, CPU)
    same_run(out, whole)
    for at in (2, 4, 6):
        assert (out / f"at-{at}.safetensors").read_bytes() == (whole / f"at-{at}.safetensors").read_bytes()
    if regime == "head":
        body = tensors(store / "maml" / "best.safetensors")
        now = tensors(out / "last.safetensors")
        assert all(torch.equal(now[f"network.{key}"], x) for key, x in body.items() if not key.startswith("head."))


# Checkpoints that stay


def test_the_weights_of_an_iteration_are_those_of_a_shorter_run(store, tmp_path):
    train_images(TINY.where(algorithm="maml", keep=2), tmp_path / "kept", CPU)
    assert sorted(path.name for path in (tmp_path / "kept").glob("at-*")) == [f"at-{i}.safetensors" for i in (2, 4, 6)]
    train_images(TINY.where(algorithm="maml", iterations=4), tmp_path / "short", CPU)
    last = tensors(tmp_path / "short" / "last.safetensors")
    at = load(tmp_path / "kept" / "at-4.safetensors")
    assert at.metadata["iteration"] == 4
    assert all(torch.equal(value, last[f"network.{name}"]) for name, value in at.model.state_dict().items())
    assert not list((store / "maml").glob("at-*")), "unless asked"
    assert same_weights(*(tensors(run / "best.safetensors") for run in (tmp_path / "kept", store / "maml")))


# What users do with them


@pytest.fixture(scope="module")
def letters(cache, tmp_path_factory) -> Path:
    """Four classes of the test as a folder of images."""
    folder = tmp_path_factory.mktemp("letters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(cache))
        few_scripts(patch)
        bank = banks().test
    for label in range(4):
        (folder / f"letter{label}").mkdir()
        for i, image in enumerate(bank.of_class(label)[:3]):
            Image.fromarray(image[..., 0].numpy()).save(folder / f"letter{label}" / f"{i}.png")
    return folder


@pytest.mark.parametrize("algorithm", WITHOUT)
def test_without_an_inner_loop_nil_answers(algorithm, store, letters):
    run = store / algorithm
    outcome = call("evaluate", run, "--json", "--device", "cpu")
    assert json.loads(outcome.out) == json.loads((run / "result.json").read_text())["test"]["nil"]
    outcome = call("evaluate", run, "--predictor", "nil", "--way", 5, "--device", "cpu")
    assert outcome.out.startswith(" 0 steps  "), outcome.err
    image = letters / "letter2" / "0.png"
    for method in ("auto", "nil"):
        outcome = call("classify", run, image, "--support", letters, "--json", "--method", method)
        answer = json.loads(outcome.out)[0]
        assert sorted(answer["probabilities"]) == [f"letter{i}" for i in range(4)], "more than the 3 of a training task"
    said = complaint(call("classify", run, image, "--support", letters, "--method", "head"))
    assert said == f'{algorithm} training leaves no head that adapts: use method "nil"'
