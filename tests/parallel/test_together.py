"""Runs that differ in their seed, trained in step."""

from __future__ import annotations

import json
import signal

import pytest
import tiny
import torch

from innerloop.runs import images
from innerloop.runs.config import Spec
from innerloop.runs.images import FewShotImages, train_images, train_images_together
from innerloop.runs.means import Compute
from innerloop.runs.run import Diverged
from innerloop.runs.schedule import Interrupted, Logging
from innerloop.runs.together import Apart

CPU, SEEDS = Compute(device="cpu"), (0, 1, 2)


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Spec:
    return Spec().where(
        data=str(tiny.pictures(tmp_path_factory.mktemp("pictures"))), algorithm="maml",
        way=3, query=2, test_query=2, meta_batch=2, steps=2, test_steps=3, lr=0.1, width=4, size=14, pooling="stride",
        spatial_mean=True, iterations=7, log_every=2, val_every=3, val_episodes=4, test_episodes=6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(spec, tmp_path_factory):
    root = tmp_path_factory.mktemp("alone")
    for seed in SEEDS:
        train_images(spec.where(seed=seed), root / str(seed), CPU)
    return root


def together(spec, root, seeds=SEEDS, **more):
    return train_images_together([spec.where(seed=s) for s in seeds], [root / str(s) for s in seeds], CPU, **more)


def like(run, other) -> None:
    """Two folders hold the same run, to what seven steps of Adam make of single precision's rounding."""
    ours, theirs = ([json.loads(x) for x in (f / "metrics.jsonl").read_text().splitlines()] for f in (run, other))
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(yours, abs=2e-3)
    ours, theirs = (tiny.tensors(folder / "last.safetensors") for folder in (run, other))
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"state.random"}:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=2e-2, atol=5e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_seeds_that_train_as_one_are_the_runs_that_they_are_alone(spec, alone, tmp_path):
    results = together(spec, tmp_path)
    for seed, result in zip(SEEDS, results, strict=True):
        like(tmp_path / str(seed), alone / str(seed))
        assert result == json.loads((tmp_path / str(seed) / "result.json").read_text())
    assert together(spec, tmp_path) == results, "finished runs are not trained again"


@pytest.mark.slow
def test_stopped_together_they_go_on_together_and_alone(spec, alone, tmp_path, monkeypatch):
    asked = 0

    def stopping(self, number, real=FewShotImages.step):
        nonlocal asked
        asked += 1
        if asked == 10:  # the first of the three, in the fourth iteration
            signal.raise_signal(signal.SIGTERM)
        return real(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(images.FewShotImages, "step", stopping)
        with pytest.raises(Interrupted, match="stopped after iteration 4 of 7"):
            together(spec, tmp_path)
    tiny_spec = spec.where(seed=2)
    train_images(tiny_spec, tmp_path / "2", CPU)
    with pytest.raises(Apart, match=r"stand at different iterations, \[0, 4\]"):
        together(spec, tmp_path, seeds=(0, 5))
    assert [type(outcome) for outcome in together(spec, tmp_path)] == [dict] * 3
    for seed in SEEDS:
        like(tmp_path / str(seed), alone / str(seed))


@pytest.mark.slow
def test_one_that_diverges_leaves_the_others_alone(spec, alone, tmp_path, monkeypatch):
    def broken(self, number, real=FewShotImages.step):
        measured = real(self, number)
        if self.spec.seed == 1 and number == 4:
            self.network.head.bias.data[0] = torch.nan
        return measured

    monkeypatch.setattr(images.FewShotImages, "step", broken)
    outcomes = together(spec, tmp_path, logging=Logging(checkpoint_seconds=0))
    assert [type(outcome) for outcome in outcomes] == [dict, Diverged, dict]
    for seed in (0, 2):
        like(tmp_path / str(seed), alone / str(seed))


def test_runs_that_differ_in_more_than_their_seed_do_not_train_as_one(spec, tmp_path):
    with pytest.raises(ValueError, match="differ in nothing but their seed"):
        train_images_together([spec, spec.where(lr=0.3)], [tmp_path / "a", tmp_path / "b"], CPU)
