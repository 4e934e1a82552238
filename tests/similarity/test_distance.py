from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop.similarity import weight_distance


def network():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.ModuleDict({"body": body, "head": nn.Linear(4, 5)})


def moved(state, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        name: value + torch.randn(value.shape, generator=draw) if value.is_floating_point() else value + 3
        for name, value in state.items()
    }


def by_vector(before, after, prefix):
    names = [name for name in before if name.startswith(prefix) and before[name].is_floating_point()]
    return torch.cat([(after[name] - before[name]).double().flatten() for name in names]).norm()


def test_each_layer_is_one_vector():
    before = network().state_dict()
    after = moved(before)
    distances = weight_distance(before, after)
    assert list(distances) == ["body", "head"]
    for layer, distance in distances.items():
        torch.testing.assert_close(distance, by_vector(before, after, layer))
    assert not any(weight_distance(before, before).values())
    torch.testing.assert_close(weight_distance(after, before), distances)


def test_layers_by_name():
    before = network().state_dict()
    after = moved(before)
    distances = weight_distance(before, after, layers=["head", "body.0", "body", "head.bias"])
    assert list(distances) == ["head", "body.0", "body", "head.bias"]
    for layer, distance in distances.items():
        torch.testing.assert_close(distance, by_vector(before, after, layer))
    with pytest.raises(ValueError, match=r"no parameter belongs to layer 'bod'\. There are body\.0\.weight"):
        weight_distance(before, after, layers=["bod"])


def test_tasks_are_a_leading_axis():
    before = network().state_dict()
    tasks = [moved(before, seed) for seed in range(3)]
    stacked = {name: torch.stack([task[name] for task in tasks]) for name in before}
    stacked["head.bias"] = before["head.bias"]  # one that did not adapt may come without the axis
    distances = weight_distance(before, stacked)
    for i, task in enumerate(tasks):
        alone = weight_distance(before, task | {"head.bias": before["head.bias"]})
        for layer, distance in alone.items():
            torch.testing.assert_close(distances[layer][i], distance)


def test_small_moves_of_large_weights_are_seen():
    before = {"scale": torch.tensor(1e8, dtype=torch.float64), "layer.weight": torch.full((10,), 1e4)}
    after = {name: value + 1 for name, value in before.items()}
    distances = weight_distance(before, after)
    assert distances["scale"] == 1
    assert distances["layer"].item() == pytest.approx(10**0.5)


def test_refuses_other_names_and_shapes():
    before = network().state_dict()
    with pytest.raises(ValueError, match=r"only one of the two has head\.bias"):
        weight_distance(before, {name: value for name, value in before.items() if name != "head.bias"})
    for shape in ((6,), (5, 1), ()):
        with pytest.raises(ValueError, match=r"head\.bias is \(5,\) before"):
            weight_distance(before, before | {"head.bias": torch.zeros(shape)})
