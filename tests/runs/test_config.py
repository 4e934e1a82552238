from __future__ import annotations

import json

import pytest
import torch

from innerloop.inner import InnerLoop
from innerloop.params import chosen
from innerloop.predictors import NIL
from innerloop.runs.config import Inner, Spec
from innerloop.runs.settings import SCHEMA, flat

OTHER = {
    "data": "omniglot", "algorithm": "maml", "body": "", "keep": 5, "adapt": ("block4.*",), "way": 6, "shot": 2,
    "query": 3, "meta_batch": 5, "steps": 4, "lr": 0.1, "meta_lr": 2e-3, "clip": 0.5, "iterations": 11, "network":
    "resnet12", "width": 33, "pooling": "stride", "halvings": 3, "spatial_mean": True, "head_std": 1.0,
    "norm_scale": False, "norm_eps": 1e-3, "norm_adapts": True, "size": 28, "split": "official", "seed": 1,
    "group_by": "{group}_*", "val_every": 7, "val_episodes": 8, "log_every": 9, "test_episodes": 12, "test_query": 4,
    "test_steps": 6, "head_start": "zero", "inner_clip": 0.5, "first_order": True, "statistics": "support",
}  # fmt: skip
MAY_BE_NONE = ("steps", "test_steps", "iterations", "keep")
BODY = [f"block{i}.{part}" for i in range(1, 5) for part in ("norm.weight", "norm.bias", "conv.weight")]
HEAD = ["head.weight", "head.bias"]


def adapts(spec: Spec, test: bool = False) -> set[str]:
    model = spec.build((1, 28, 28))
    return set(chosen(model, (spec.inner.test_rule() if test else spec.inner.rule()).adapt))


def test_the_key_names_the_settings():
    assert len(Spec().key) == 8
    assert int(Spec().key, 16) >= 0
    assert Spec().key == Spec().key == Spec.from_json(json.loads(json.dumps(Spec().as_json()))).key
    assert Spec().where(lr=1).key == Spec().where(lr=1.0).key


def test_any_other_setting_makes_another_key():
    assert OTHER.keys() == flat(Spec()).keys()
    changes = OTHER | {"body": "runs/other"}
    keys = {Spec().key} | {Spec().where(**{name: value}).key for name, value in changes.items()}
    assert len(keys) == 1 + len(OTHER)


def test_what_is_not_asked_for_is_not_written():
    """So a setting that is added later changes no name of a run that does without it."""
    assert Spec().as_json() == {"schema": SCHEMA}
    assert Spec().where(way=7, adapt=("head.*",)).as_json() == {"schema": SCHEMA, "way": 7, "adapt": ["head.*"]}


@pytest.mark.parametrize("spec", [Spec(), Spec().where(**OTHER)])
def test_settings_survive_json(spec):
    assert Spec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"schema": SCHEMA, "way": 5, "taste": 1, "colour": 2},
            "unknown settings colour, taste: written by another version of innerloop",
        ),
        ({"way": 5}, f"settings of another version of innerloop \\(schema None, expected schema {SCHEMA}\\)"),
        ([], "settings of another version of innerloop \\(list, expected"),
        ({"schema": SCHEMA, "way": "5"}, "^way: expected `int`, got `str`$"),
        ({"schema": SCHEMA, "adapt": "head.*"}, "^adapt: expected `array`, got `str`$"),
        ({"schema": SCHEMA, "way": None}, "^way: expected `int`, got `null`$"),
        ({"schema": SCHEMA, "algorithm": "reptile"}, "^algorithm: invalid enum value 'reptile'$"),
        ({"schema": SCHEMA, "way": 0}, "^way must be at least 1, got 0$"),
    ],
)
def test_settings_that_are_none_are_told(values, said):
    with pytest.raises(ValueError, match=said):
        Spec.from_json(values)


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
        Spec().where(**{name: value})


def test_no_steps_are_possible():
    assert Spec().where(steps=0, test_steps=0).inner.test_rule().steps == 0


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "boil", "nil", "multitask", "multiclass"])
def test_only_a_head_is_trained_on_another_body(algorithm):
    assert Spec().where(body="other").title == "glyphs-5way-1shot-head-seed0"
    with pytest.raises(ValueError, match=f"only the head is trained on another run's body: .* anil, not {algorithm}"):
        Spec().where(body="other", algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["nil", "multitask", "multiclass"])
def test_training_without_an_inner_loop(algorithm):
    inner = Inner(algorithm)
    assert inner.rule() == inner.test_rule() == InnerLoop((), 0)
    assert inner.predictor(7) == (NIL(way=7) if algorithm == "nil" else InnerLoop((), 0))
    assert inner.test_predictor(7) == NIL(way=7)
    assert Inner("maml").test_predictor(7) == Inner("maml").test_rule()


def test_the_title():
    assert Spec().where(data="a/b/pets/", way=3, shot=2, algorithm="maml", seed=4).title == "pets-3way-2shot-maml-seed4"
    assert Spec().title == "glyphs-5way-1shot-anil-seed0"
    assert Spec().where(iterations=0, algorithm="maml").title == "glyphs-5way-1shot-random-seed0"
    assert Spec().name == f"{Spec().title}-{Spec().key}"


def test_a_longer_run_keeps_its_folder():
    folders = {Spec().where(**{name: value}).folder for name, value in OTHER.items() if name != "body"}
    assert len(folders) == len(OTHER) - 1
    assert Spec().where(iterations=11).folder == Spec().folder == Spec().name


def test_names_are_pinned():
    """Golden values: others would orphan every result there is. Raise SCHEMA where a default changes."""
    assert Spec().key == "a361253d"
    assert Spec().where(**OTHER).key == "5ed4a95f"


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
    spec = Spec().where(size=28, pooling="stride", width=4, **changes)
    assert adapts(spec) == adapts(spec, test=True) == want
    assert spec.inner.rule().first_order == (spec.inner.algorithm == "fomaml")


@pytest.mark.parametrize("algorithm", ["maml", "boil"])
def test_the_norms_of_resnet12_do_not_adapt_either(algorithm):
    spec = Spec().where(network="resnet12", algorithm=algorithm, width=4, norm_scale=False)
    model = spec.build((1, 28, 28))
    norms = {name for name, p in model.named_parameters() if p.ndim == 1 and not name.startswith("head.")}
    assert norms
    assert not norms & set(chosen(model, spec.inner.rule().adapt))


def test_the_rules_take_their_numbers_from_the_settings():
    spec = Spec().where(steps=2, test_steps=7, lr=0.3)
    assert (spec.inner.rule().steps, spec.inner.test_rule().steps) == (2, 7)
    assert spec.inner.rule().lr == spec.inner.test_rule().lr == 0.3


@pytest.mark.parametrize("network", ["conv4", "resnet12"])
def test_the_seed_alone_decides_the_first_weights(network):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.randint(100, ()).item())
        spec = Spec().where(network=network, width=4, seed=seed)
        return torch.cat([p.flatten() for p in spec.build((3, 32, 32)).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_network_follows_the_settings():
    spec = Spec().where(
        way=7, width=6, pooling="stride", halvings=3, spatial_mean=True, norm_scale=False, norm_eps=0.25
    )
    model = spec.build((3, 20, 20))
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 7)
    assert model[:4](torch.rand(2, 3, 20, 20)).shape == (2, 6, 3, 3)
    assert model.block1.conv.weight.shape == (6, 3, 3, 3)
    assert (model.block1.norm.weight, model.block1.norm.eps) == (None, 0.25)
    assert model.head.weight.shape == (7, 6)
    assert spec.build((3, 20, 20), way=2).head.weight.shape == (2, 6)
    for network in ("conv4", "resnet12"):
        with pytest.raises(ValueError, match=r"images of 15 pixels are too small for \w+ .*: use 16 or more"):
            Spec().where(network=network).build((3, 15, 15))


def test_the_inner_loop_as_it_was_asked_for():
    spec = Spec().where(algorithm="maml", head_start="shared", inner_clip=0.1, first_order=True, statistics="support")
    for rule in (spec.inner.rule(), spec.inner.test_rule()):
        assert (rule.head_start, rule.clip, rule.first_order, rule.statistics) == ("shared", 0.1, True, "support")
    assert Spec().where(algorithm="fomaml").inner.rule().first_order
    assert Spec().where(algorithm="nil", statistics="image").inner.predictor(5).statistics == "image"


@pytest.mark.parametrize("change", [{"head_start": "zero"}, {"inner_clip": 1.0}, {"first_order": True}])
def test_without_an_inner_loop_nothing_is_said_about_it(change):
    with pytest.raises(ValueError, match="nil has no inner loop"):
        Spec().where(algorithm="nil", **change)
