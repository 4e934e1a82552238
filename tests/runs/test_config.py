from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.params import chosen
from innerloop.predictors import NIL
from innerloop.runs.config import Spec, as_dict, from_dict

OTHER = {
    "data": "omniglot", "algorithm": "maml", "body": "", "keep": 5, "adapt": ("block4.*",), "way": 6, "shot": 2,
    "query": 3, "tasks": 5, "steps": 4, "lr": 0.1, "meta_lr": 2e-3, "clip": 0.5, "iterations": 11, "network":
    "resnet12", "width": 33, "pooling": "stride", "halvings": 3, "spatial_mean": True, "head_std": 1.0,
    "norm_scale": False, "norm_eps": 1e-3, "norm_adapts": True, "size": 28, "split": "official", "seed": 1,
    "val_every": 7, "val_episodes": 8, "log_every": 9, "test_episodes": 12, "test_query": 4, "test_steps": 6,
}  # fmt: skip
MAY_BE_NONE = ("steps", "test_steps", "iterations", "keep")
BODY = [f"block{i}.{part}" for i in range(1, 5) for part in ("norm.weight", "norm.bias", "conv.weight")]
HEAD = ["head.weight", "head.bias"]


def adapts(spec: Spec, test: bool = False) -> set[str]:
    model = spec.build((1, 28, 28))
    return set(chosen(model, (spec.test_rule() if test else spec.rule()).adapt))


def test_the_key_names_the_settings():
    assert len(Spec().key) == 8
    assert int(Spec().key, 16) >= 0
    assert Spec().key == Spec().key == from_dict(json.loads(json.dumps(as_dict(Spec())))).key


def test_any_other_setting_makes_another_key():
    assert OTHER.keys() == {field.name for field in fields(Spec)}
    changes = OTHER | {"body": "runs/other"}
    keys = {Spec().key} | {replace(Spec(), **{name: value}).key for name, value in changes.items()}
    assert len(keys) == 1 + len(OTHER)


@pytest.mark.parametrize("spec", [Spec(), Spec(**OTHER)])
def test_settings_survive_json(spec):
    assert from_dict(json.loads(json.dumps(as_dict(spec)))) == spec


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="unknown settings colour, taste: written by another version of innerloop"):
        from_dict({"way": 5, "taste": 1, "colour": 2})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *((name, 0, f"{name} must be at least 1, got 0") for name in OTHER if type(OTHER[name]) is int
          if name not in ("seed", "halvings", *MAY_BE_NONE)),
        ("test_query", -2, "test_query must be at least 1, got -2"),
        *((name, -1, f"{name} must not be negative, got -1") for name in MAY_BE_NONE),
        *((name, value, f"{name} must be above 0, got {value}") for value in (0.0, -1.0, float("nan"))
          for name in ("lr", "meta_lr", "clip", "head_std", "norm_eps")),
        ("meta_lr", 1e38, "meta_lr must be at most 1e37, got 1e\\+38"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        Spec(**{name: value})


def test_no_steps_are_possible():
    assert Spec(steps=0, test_steps=0).test_rule().steps == 0


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "boil", "nil", "multitask", "multiclass"])
def test_only_a_head_is_trained_on_another_body(algorithm):
    assert Spec(body="other").title == "glyphs-5way-1shot-head-seed0"
    with pytest.raises(ValueError, match=f"only the head is trained on another run's body: .* anil, not {algorithm}"):
        Spec(body="other", algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["nil", "multitask", "multiclass"])
def test_training_without_an_inner_loop(algorithm):
    spec = Spec(algorithm=algorithm, way=7)
    assert spec.rule() == spec.test_rule() == InnerLoop((), 0)
    assert spec.predictor() == (NIL(way=7) if algorithm == "nil" else InnerLoop((), 0))
    assert spec.test_predictor() == NIL(way=7)
    assert Spec(algorithm="maml").test_predictor() == Spec(algorithm="maml").test_rule()


def test_the_title():
    assert Spec(data="a/b/pets/", way=3, shot=2, algorithm="maml", seed=4).title == "pets-3way-2shot-maml-seed4"
    assert Spec().title == "glyphs-5way-1shot-anil-seed0"
    assert Spec(iterations=0, algorithm="maml").title == "glyphs-5way-1shot-random-seed0"
    assert Spec().name == f"{Spec().title}-{Spec().key}"


def test_a_longer_run_keeps_its_folder():
    folders = {replace(Spec(), **{name: value}).folder for name, value in OTHER.items() if name != "body"}
    assert len(folders) == len(OTHER) - 1
    assert Spec(iterations=11).folder == Spec().folder == Spec().name


def test_names_are_pinned():
    """A golden value, noted when runs were first kept by name: another would orphan every result there is."""
    assert Spec().key == "591d8465"
    assert Spec(**OTHER).key == "894f0ef4"


WITHOUT_NORM = {name for name in BODY if "norm" not in name}


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"algorithm": "anil"}, set(HEAD)),
        ({"algorithm": "maml"}, WITHOUT_NORM | set(HEAD)),
        ({"algorithm": "fomaml"}, WITHOUT_NORM | set(HEAD)),
        ({"algorithm": "boil"}, WITHOUT_NORM),
        ({"algorithm": "maml", "norm_adapts": True}, {*BODY, *HEAD}),
        ({"algorithm": "boil", "norm_adapts": True}, set(BODY)),
        ({"algorithm": "maml", "adapt": ("block4.*", "head.*")}, {*BODY[-3:], *HEAD}),
        ({"algorithm": "anil", "adapt": ("*", "!head.*", "!block1.*")}, set(BODY[3:])),
    ],
)
def test_what_adapts(changes, want):
    spec = Spec(size=28, pooling="stride", width=4, **changes)
    assert adapts(spec) == adapts(spec, test=True) == want
    assert spec.rule().first_order == (spec.algorithm == "fomaml")


@pytest.mark.parametrize("algorithm", ["maml", "boil"])
def test_the_norms_of_resnet12_do_not_adapt_either(algorithm):
    spec = Spec(network="resnet12", algorithm=algorithm, width=4, norm_scale=False)
    model = spec.build((1, 28, 28))
    norms = {name for name, p in model.named_parameters() if p.ndim == 1 and not name.startswith("head.")}
    assert norms
    assert not norms & set(chosen(model, spec.rule().adapt))


def test_the_rules_take_their_numbers_from_the_settings():
    spec = Spec(steps=2, test_steps=7, lr=0.3)
    assert (spec.rule().steps, spec.test_rule().steps) == (2, 7)
    assert spec.rule().lr == spec.test_rule().lr == 0.3


@pytest.mark.parametrize("network", ["conv4", "resnet12"])
def test_the_seed_alone_decides_the_first_weights(network):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.randint(100, ()).item())
        spec = Spec(network=network, width=4, seed=seed)
        return torch.cat([p.flatten() for p in spec.build((3, 32, 32)).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_network_follows_the_settings():
    spec = Spec(way=7, width=6, pooling="stride", halvings=3, spatial_mean=True, norm_scale=False, norm_eps=0.25)
    model = spec.build((3, 20, 20))
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 7)
    assert model[:4](torch.rand(2, 3, 20, 20)).shape == (2, 6, 3, 3)
    assert model.block1.conv.weight.shape == (6, 3, 3, 3)
    assert (model.block1.norm.weight, model.block1.norm.eps) == (None, 0.25)
    assert model.head.weight.shape == (7, 6)
    assert spec.build((3, 20, 20), way=2).head.weight.shape == (2, 6)
    for network in ("conv4", "resnet12"):
        with pytest.raises(ValueError, match=r"images of 15 pixels are too small for \w+ .*: use 16 or more"):
            Spec(network=network).build((3, 15, 15))
