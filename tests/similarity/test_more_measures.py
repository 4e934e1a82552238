"""Procrustes, RSA, mutual neighbours and cosines of classes: against their definitions, and what they do not see."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from innerloop.similarity import class_cosines, mean_cca, mutual_neighbours, procrustes, rsa


def pair(*leading: int, n: int = 30, p: int = 6, q: int = 4, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(*leading, n, p, generator=draw, dtype=torch.float64)
    y = x @ torch.randn(*leading, p, q, generator=draw, dtype=torch.float64)
    return x, y + torch.randn(*leading, n, q, generator=draw, dtype=torch.float64)


def rotation(width: int, seed: int = 5):
    return torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)).double())[0]


def by_turning(x, y, steps=400):
    """The largest cosine between x and a rotation of y, by climbing over rotations: no singular value in it."""
    width = max(x.shape[1], y.shape[1])
    x, y = (torch.nn.functional.pad(part - part.mean(0), (0, width - part.shape[1])) for part in (x, y))
    x, y = x / x.norm(), y / y.norm()
    best = 0.0
    for sign in (1.0, -1.0):  # rotations and reflections
        skew = torch.zeros(width, width, dtype=x.dtype, requires_grad=True)
        mirror = torch.ones(width, dtype=x.dtype)
        mirror[0] = sign
        adam = torch.optim.Adam([skew], lr=0.05)
        for _ in range(steps):
            adam.zero_grad()
            cosine = (x * (y * mirror @ torch.linalg.matrix_exp(skew - skew.T))).sum()
            (-cosine).backward()
            adam.step()
        best = max(best, cosine.item())
    return best


def test_procrustes_is_the_best_rotation():
    x, y = pair(n=12, p=3, q=2)
    assert procrustes(x, y).value.item() == pytest.approx(by_turning(x, y), abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*noise")
@pytest.mark.parametrize("n", [30, 5], ids=["tall", "wide"])
def test_what_procrustes_does_not_see(n):
    x, y = pair(n=n)
    found = procrustes(x, y)
    for one, other in ((x + 3, y), (x @ rotation(6), y * 7), (y, x), (torch.cat([x, torch.ones(n, 2)], 1), y)):
        torch.testing.assert_close(procrustes(one, other).value, found.value)
    assert procrustes(x, 2 * x @ rotation(6) - 1).value.item() == pytest.approx(1)
    stretched = x * torch.linspace(0.1, 3, 6)
    assert procrustes(x, stretched).value < 0.95
    if n > 8:
        assert mean_cca(x, stretched).value.item() == pytest.approx(1), "CCA sees no linear map"


def test_the_angle_obeys_the_triangle_inequality():
    for seed in range(20):
        (x, y), z = pair(seed=seed), pair(seed=seed + 100)[0]
        a, b, c = (procrustes(*two).distance for two in ((x, y), (y, z), (x, z)))
        assert c <= a + b + 1e-9
        assert a.item() == pytest.approx(math.acos(procrustes(x, y).value))


def ranks(values):
    return [sum(other < v for other in values) + (sum(other == v for other in values) - 1) / 2 for v in values]


def correlation(a, b):
    a, b = ([v - sum(c) / len(c) for v in c] for c in (a, b))
    top = sum(v * w for v, w in zip(a, b, strict=True))
    return top / math.sqrt(sum(v * v for v in a) * sum(w * w for w in b))


@pytest.mark.parametrize("ranked", [True, False])
@pytest.mark.parametrize("kind", ["correlation", "euclidean"])
def test_rsa_by_its_definition(kind, ranked):
    layers = pair(n=9)
    layers[0][3] = layers[0][2]  # equal dissimilarities share a rank
    columns = []
    for layer in layers:
        rows = layer.tolist()
        column = [1 - correlation(a, b) if kind == "correlation" else math.dist(a, b) for a, b in combinations(rows, 2)]
        columns.append([round(v, 12) for v in column])
    expected = correlation(*(map(ranks, columns) if ranked else columns))
    assert rsa(*layers, dissimilarity=kind, ranks=ranked).value.item() == pytest.approx(
        expected, abs=0.01 * ranked + 1e-9
    )


def test_what_rsa_does_not_see():
    x, y = pair()
    order, scales = torch.randperm(6), torch.linspace(0.5, 3, 30)[:, None]
    value = rsa(x, y).value
    for other in (x[:, order], x * scales, x + scales):
        torch.testing.assert_close(rsa(other, y).value, value)
    assert abs(rsa(x @ rotation(6), y).value - value) > 1e-3
    value = rsa(x, y, dissimilarity="euclidean").value
    for other in (x @ rotation(6), x + torch.arange(6), 5 * x):
        torch.testing.assert_close(rsa(other, y, dissimilarity="euclidean").value, value)
    assert rsa(x, x).value.item() == pytest.approx(1)
    noise = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    assert abs(rsa(noise, noise[torch.randperm(200, generator=torch.Generator().manual_seed(2))]).value) < 0.1


@pytest.mark.parametrize("few", [1, 2**24], ids=["a row at a time", "all at once"])
def test_neighbours_by_their_definition(few, monkeypatch):
    monkeypatch.setattr("innerloop.similarity.neighbours._AT_ONCE", few)
    x, y = pair(n=20)

    def nearest(layer, i):
        def cosine(j):
            return float(layer[i] @ layer[j] / (layer[i].norm() * layer[j].norm()))

        return set(sorted((j for j in range(20) if j != i), key=cosine)[-4:])

    expected = sum(len(nearest(x, i) & nearest(y, i)) for i in range(20)) / 80
    found = mutual_neighbours(x, y, k=4)
    assert found.value.item() == pytest.approx(expected)
    assert found.chance == pytest.approx(4 / 19)
    assert mutual_neighbours(x, x @ rotation(6) * torch.linspace(0.5, 3, 20)[:, None], k=4).value == 1


def test_unrelated_layers_share_neighbours_by_chance():
    x, y = (torch.randn(1000, 8, generator=torch.Generator().manual_seed(i)) for i in range(2))
    found = mutual_neighbours(x, y, k=20)
    assert found.value.item() == pytest.approx(found.chance, rel=0.1)


def test_cosines_of_classes_by_their_definition():
    x, labels = pair(n=8)[0], torch.tensor([0, 1, 1, 2, 0, 1, 2, 2])
    cosine = torch.nn.functional.cosine_similarity
    groups: dict[bool, list[float]] = {True: [], False: []}
    for i, j in combinations(range(8), 2):
        groups[bool(labels[i] == labels[j])].append(float(cosine(x[i], x[j], dim=0)))
    found = class_cosines(x, labels)
    assert found.within.item() == pytest.approx(sum(groups[True]) / len(groups[True]))
    assert found.between.item() == pytest.approx(sum(groups[False]) / len(groups[False]))
    ideal = class_cosines(torch.eye(3).repeat(2, 1), torch.arange(3).repeat(2))
    assert (ideal.within, ideal.between) == (1, 0)


def test_an_axis_of_tasks():
    x, y = pair(2, 3)
    labels = torch.arange(5).repeat(6).expand(2, 3, 30)
    for values, alone in (
        (procrustes(x, y).value, lambda i, j: procrustes(x[i, j], y[i, j]).value),
        (rsa(x, y).value, lambda i, j: rsa(x[i, j], y[i, j]).value),
        (mutual_neighbours(x, y).value, lambda i, j: mutual_neighbours(x[i, j], y[i, j]).value),
        (class_cosines(x, labels).within, lambda i, j: class_cosines(x[i, j], labels[i, j]).within),
    ):
        assert values.shape == (2, 3)
        torch.testing.assert_close(values[1, 2], alone(1, 2))


def test_a_constant_layer_is_0_and_says_so():
    x, y = pair()
    for measure in (procrustes, rsa):
        with pytest.warns(UserWarning, match="one side is constant") as caught:
            assert measure(torch.ones_like(x), y).value == 0
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: procrustes(x[:1], y[:1]), "got 1 data point and needs at least 2"),
        (lambda x, y: rsa(x[:2], y[:2]), "got 2 data points and needs at least 3"),
        (lambda x, y: rsa(x[:, :1], y), 'take dissimilarity="euclidean"'),
        (lambda x, y: rsa(x, y, dissimilarity="cosine"), "got 'cosine'"),
        (lambda x, y: rsa(x * torch.nan, y), "NaN or infinite"),
        (lambda x, y: mutual_neighbours(x, y, k=29), "between 1 and n - 2 = 28 for 30 data points, got 29"),
        (lambda x, y: mutual_neighbours(x, y[1:]), "same inputs"),
        (lambda x, y: mutual_neighbours(x, y / 0), "NaN or infinite"),
        (lambda x, y: class_cosines(x, torch.zeros(29)), "flatten conv maps first"),  # noqa: ARG005
        (lambda x, y: class_cosines(x, torch.zeros(30)), "need two classes"),  # noqa: ARG005
        (lambda x, y: class_cosines(x, torch.arange(30)), "two inputs of one"),  # noqa: ARG005
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*pair())
