"""The presets against the reference code's facts, in the units of a loss that is a mean."""

from __future__ import annotations

import pytest
import torch

from innerloop.models.few_shot import conv_same
from innerloop.params import chosen
from innerloop.runs.presets import FOLDER, PRESETS, preset, usual_lr
from innerloop.runs.settings import flat

# The reference sums its inner loss over N * K images and divides by K: N times the mean. Its outer loss is likewise
# summed over queries and divided by K, so a clip of 10 is 10 / 75 of the mean at 1-shot, 10 / 15 at 5-shot.
REFERENCE = {  # way, shot, query in training, tasks, inner lr, clip
    "omniglot-20way-1shot": (20, 1, 1, 16, 20 * 0.1, None),
    "omniglot-20way-5shot": (20, 5, 5, 16, 20 * 0.1, None),
    "mini-imagenet-5way-1shot": (5, 1, 15, 4, 5 * 0.01, 10 / 75),
    "mini-imagenet-5way-5shot": (5, 5, 15, 4, 5 * 0.01, 10 / 15),
}
ALL = {
    "algorithm": "maml", "adapt": (), "meta_lr": 1e-3, "steps": 5, "test_steps": 10, "iterations": 30_000,
    "network": "conv4", "norm_scale": False, "norm_eps": 1e-3, "norm_adapts": False, "test_episodes": 600,
    "test_query": None, "val_every": 500,
}  # fmt: skip
OMNIGLOT = {
    "data": "omniglot", "split": "reference", "size": 28, "width": 64, "pooling": "stride", "spatial_mean": True,
    "head_std": 1.0,
}  # fmt: skip
MINI = {
    "data": "mini-imagenet", "split": "", "size": 84, "width": 32, "pooling": "max", "spatial_mean": False,
    "head_std": None,
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCE)
def test_the_settings_of_the_reference(name):
    spec = preset(name)
    for key, value in {**ALL, **(OMNIGLOT if name.startswith("omniglot") else MINI)}.items():
        assert flat(spec)[key] == value, key
    assert tuple(flat(spec)[key] for key in ("way", "shot", "query", "meta_batch", "lr", "clip")) == pytest.approx(
        REFERENCE[name]
    )


def test_the_setting_of_maml_on_omniglot():
    spec = preset("omniglot-5way-1shot")
    assert tuple(flat(spec)[key] for key in ("way", "shot", "query", "meta_batch", "lr", "clip")) == (
        5,
        1,
        1,
        32,
        5 * 0.4,
        None,
    )
    assert (spec.inner.steps, spec.inner.test_steps) == (1, 3)
    assert all(flat(spec)[key] == value for key, value in OMNIGLOT.items())


@pytest.mark.parametrize("name", REFERENCE)
def test_the_networks_of_the_reference(name):
    spec, omniglot = preset(name), name.startswith("omniglot")
    channels = 1 if omniglot else 3
    model = spec.build((channels, spec.problem.size, spec.problem.size))
    assert model.head.weight.shape == ((20, 64) if omniglot else (5, 800))
    assert [tuple(getattr(model, f"block{i}").conv.stride) for i in range(1, 5)] == [(2, 2) if omniglot else (1, 1)] * 4
    assert {tuple(getattr(model, f"block{i}").conv.kernel_size) for i in range(1, 5)} == {(3, 3)}
    sizes, x = [], torch.zeros(2, channels, spec.problem.size, spec.problem.size)
    for block in model[:4]:
        x = block(x)
        sizes.append(x.shape[-1])
    assert sizes == ([14, 7, 4, 2] if omniglot else [42, 21, 10, 5])
    bound = (6 / (9 * (channels + spec.model.width))) ** 0.5  # Xavier uniform
    assert 0.9 * bound < model.block1.conv.weight.abs().max() <= bound
    head = model.head.weight
    if omniglot:  # N(0, 1)
        assert head.std().item() == pytest.approx(1, abs=0.1)
        assert head.abs().max() > 2
    else:
        assert 0.9 * (6 / 805) ** 0.5 < head.abs().max() <= (6 / 805) ** 0.5
    assert not model.head.bias.any()
    assert not any(getattr(model, f"block{i}").norm.bias.any() for i in range(1, 5))


def test_the_padding_is_that_of_tensorflow():
    conv = torch.nn.Conv2d(1, 1, 3, 2, bias=False)
    conv.weight.data = torch.zeros(1, 1, 3, 3)
    conv.weight.data[..., 0, 0] = 1  # sees the padding above and left alone
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    assert conv_same(x, conv).flatten().tolist() == [1, 3, 9, 11]  # even size: no padding there


@pytest.mark.parametrize("name", REFERENCE)
def test_all_but_the_norm_adapts(name):
    spec = preset(name)
    model = spec.build((3, spec.problem.size, spec.problem.size))
    body = [f"block{i}.conv.weight" for i in range(1, 5)]
    assert chosen(model, spec.inner.rule().adapt) == [*body, "head.weight", "head.bias"]
    norms = [f"block{i}.norm.bias" for i in range(1, 5)]
    assert sorted(dict(model.named_parameters())) == sorted([*body, *norms, "head.weight", "head.bias"])
    assert not spec.inner.rule().first_order


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_name_says(name):
    spec = preset(name)
    assert name == f"{spec.problem.data}-{spec.problem.way}way-{spec.problem.shot}shot"
    spec.build((1, spec.problem.size, spec.problem.size))


def test_the_settings_for_a_folder_build_a_network():
    assert FOLDER.build((3, FOLDER.problem.size, FOLDER.problem.size)).head.out_features == FOLDER.problem.way


@pytest.mark.parametrize(
    ("changes", "lr"), [({}, 0.016), ({"size": 28}, 0.4), ({"size": 128}, 0.0063), ({"spatial_mean": True}, 0.4)]
)
def test_the_inner_learning_rate_for_a_folder_goes_with_the_heads_inputs(changes, lr):
    assert usual_lr(FOLDER.where(**changes)) == lr
    assert FOLDER.inner.lr == usual_lr(FOLDER)


def test_an_unknown_preset():
    with pytest.raises(ValueError, match=r"there is no preset 'omniglot'\. There are: omniglot-20way-1shot, "):
        preset("omniglot")
