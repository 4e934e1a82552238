from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop import Episodes, InnerLoop, evaluate, freeze, maml
from innerloop.models import backbone, input_of
from innerloop.reuse.assignments import assignments, spread_of
from innerloop.reuse.pays import pays

WAY, SHOT, QUERY = 3, 2, 4


def network(width=6, zero=True):
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(
            stage1=nn.Conv2d(3, width, 3, 2, 1),
            act=nn.Tanh(),
            stage2=nn.Conv2d(width, width, 3, 2, 1),
            pool=nn.Flatten(),
            head=nn.Linear(width * 4, WAY),
        )
    )
    nn.init.normal_(model.head.weight)
    if zero:
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    return model


def tasks(count=6):
    made = torch.Generator().manual_seed(0)
    patterns = torch.rand(count, WAY, 1, 3, 8, 8, generator=made)
    x = patterns + 0.3 * torch.rand(count, WAY, SHOT + QUERY, 3, 8, 8, generator=made)
    y = torch.arange(WAY)
    parts = [y.repeat_interleave(n).expand(count, -1) for n in (SHOT, QUERY)]
    return [Episodes(x[:, :, :SHOT].flatten(1, 2), parts[0], x[:, :, SHOT:].flatten(1, 2), parts[1])]


@pytest.fixture(scope="module")
def found():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = pays(model, tasks(), maml(3, 0.2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    return result


def test_each_depth_is_the_inner_loop_with_the_rest_frozen(found):
    assert [depth.adapts for depth in found.depths] == [("head",), ("stage2", "head"), ("stage1", "stage2", "head")]
    for depth, frozen in zip(found.depths, (["stage1", "stage2"], ["stage1"], []), strict=True):
        score = evaluate(network(), tasks(), freeze(maml(3, 0.2), *frozen))
        torch.testing.assert_close(depth.score.values, score.values)
        gap = score.values[-1] - found.depths[0].score.values[-1]
        assert depth.gain[0] == pytest.approx(float(gap.mean()))
    assert found.depths[0].gain == (0.0, 0.0)


def test_frozen_layers_do_not_move_and_others_do(found):
    for depth in found.depths:
        assert depth.likeness.keys() == {"cca", "cka", "procrustes"}
        rows = [*depth.likeness["cka"].items(), *depth.likeness["procrustes"].items()]
        for layer, likeness in rows:
            assert likeness < 1 - 1e-7 if layer in depth.adapts else likeness == pytest.approx(1)
    assert found.depths[0].nil == pytest.approx(found.nil)  # its body is as it was
    assert found.depths[0].cosines["stage2"] == pytest.approx(found.cosines["stage2"])
    within, between = found.cosines["stage2"]
    assert within > between


def test_deeper_inner_loops_hold_more(found):
    held = [depth.held for depth in found.depths]
    assert held == sorted(held)
    assert held[0] < held[-1]
    assert all(depth.seconds > 0 for depth in found.depths)


def test_the_verdict_is_a_sentence_with_its_numbers(found):
    assert found.verdict.startswith("Adapting the body")
    assert "points" in found.verdict
    assert f"{found.depths[0].score.mean:.1%}" in found.verdict
    won = replace(found, depths=[found.depths[0], replace(found.depths[1], gain=(0.2, 0.1)), found.depths[2]])
    assert won.verdict.startswith("Adapting the body pays:") == (won.best is won.depths[1])


@pytest.mark.parametrize("adapt", [("*",), ("head.*",)])
def test_accuracy_does_not_depend_on_the_assignment_for_a_zeroed_head_and_does_for_another(adapt):
    rule = InnerLoop(adapt, 2, 0.1)
    zeroed = assignments(network(), tasks(), rule)
    assert zeroed.shape == (6, 6)  # all of 3!
    assert not spread_of(zeroed).any()
    assert spread_of(assignments(network(zero=False), tasks(), rule)).any()


def test_many_ways_are_drawn():
    assert assignments(network(), tasks(), maml(1, 0.1), most=4).shape == (4, 6)


@pytest.mark.filterwarnings("ignore:.*unrelated noise")
def test_a_vision_transformer():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=2
    )
    model = backbone(transformers.ViTModel(config), way=WAY)
    result = pays(model, tasks(3), maml(2, 0.1), neurons=input_of(model).neurons)
    assert [depth.adapts[0] for depth in result.depths] == ["head", "pool", "stage2", "stage1", "stem"]
    assert result.spread == (0.0, 0.0)
    assert result.depths[0].likeness["procrustes"]["stage2"] == pytest.approx(1)
    assert result.depths[-1].likeness["procrustes"]["stage2"] < 1


def test_bad_input_is_said():
    with pytest.raises(ValueError, match="gone through"):
        pays(network(), iter(tasks()), maml())
    with pytest.raises(ValueError, match="two or more"):
        pays(network(), tasks(1), maml())
