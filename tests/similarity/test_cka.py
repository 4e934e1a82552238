from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop.similarity import linear_cka

every_form = pytest.mark.parametrize("debiased", [False, True])
every_seed = pytest.mark.parametrize("seed", range(5))


def pair(n=50, p=8, q=6, seed=0):
    draw = np.random.default_rng(seed)
    x = np.maximum(draw.normal(size=(n, p)), 0) * np.linspace(0.2, 2, p)
    y = x @ draw.normal(size=(p, q)) + draw.normal(size=(n, q))
    return torch.from_numpy(x), torch.from_numpy(y)


def rotation(width, seed=0):
    return torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0])


def hsic(one, two):
    """From Gram matrices: the trace of their product once centred."""
    centre = np.eye(len(one)) - 1 / len(one)
    return np.trace(centre @ one @ centre @ two)


def unbiased_hsic(one, two):
    """From Gram matrices, as Song et al. (2007), equation 5."""
    n, ones = len(one), np.ones(len(one))
    one, two = one - np.diag(np.diag(one)), two - np.diag(np.diag(two))
    inner = (ones @ one @ ones) * (ones @ two @ ones) / ((n - 1) * (n - 2))
    return (np.trace(one @ two) + inner - 2 / (n - 2) * ones @ one @ two @ ones) / (n * (n - 3))


def by_gram(x, y, debiased):
    one, two = (part.numpy() @ part.numpy().T for part in (x, y))
    measure = unbiased_hsic if debiased else hsic
    return measure(one, two) / np.sqrt(measure(one, one) * measure(two, two))


def test_golden_values():
    draw = np.random.RandomState(1337)  # the example of Kornblith et al.'s notebook
    x = draw.randn(100, 10)
    y = draw.randn(100, 10) + x
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    assert linear_cka(x, y).value.item() == pytest.approx(0.55761, abs=5e-6)
    assert linear_cka(x, y, debiased=True).value.item() == pytest.approx(0.51346, abs=5e-6)


@every_form
@every_seed
@pytest.mark.filterwarnings("ignore:.*unrelated noise")
@pytest.mark.parametrize("size", [(50, 8, 6), (5, 3, 4), (20, 30, 50), (40, 1, 1)])
def test_by_gram_matrices(debiased, seed, size):
    x, y = pair(*size, seed=seed)
    result = linear_cka(x, y, debiased=debiased)
    assert result.value.item() == pytest.approx(by_gram(x, y, debiased), abs=1e-9)
    assert result.points == size[0]
    assert (-1 if debiased else 0) <= result.value <= 1


@every_form
@every_seed
def test_ignores_shifts_rotations_and_scale(debiased, seed):
    x, y = pair(seed=seed)
    value = linear_cka(x, y, debiased=debiased).value
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    for other_x, other_y in [
        (x + 1e3, y - 7),
        (x * 1e5, y * 1e-5),
        (x @ rotation(8, seed), y @ rotation(6, seed) * 2 + 1),
        (x[order], y[order]),
    ]:
        torch.testing.assert_close(linear_cka(other_x, other_y, debiased=debiased).value, value, rtol=0, atol=1e-9)
    torch.testing.assert_close(linear_cka(y, x, debiased=debiased).value, value, rtol=0, atol=1e-10)
    stretched = linear_cka(x @ rotation(8) * torch.linspace(0.1, 3, 8), y, debiased=debiased).value
    assert abs(stretched - value) > 1e-3, "a general linear map must show"
    assert abs(linear_cka(x[order], y, debiased=debiased).value - value) > 0.1


@every_form
@every_seed
def test_a_layer_is_one_with_itself(debiased, seed):
    x = pair(seed=seed)[0].float()
    double = torch.cat([x, x, torch.full((len(x), 2), 0.1)], 1)
    for layer in (x, x + 1e4, 1e-12 * x, double):
        assert linear_cka(layer, layer, debiased=debiased).value.item() == pytest.approx(1, abs=1e-6)
    assert linear_cka(x, double, debiased=debiased).value.item() == pytest.approx(1, abs=1e-6)  # each channel twice


@every_form
def test_dead_channels_change_nothing(debiased):
    x, y = pair()
    dead = torch.cat([x, torch.full((50, 3), 4.2)], 1), torch.cat([torch.zeros(50, 1), y], 1)
    torch.testing.assert_close(
        linear_cka(*dead, debiased=debiased).value, linear_cka(x, y, debiased=debiased).value, rtol=0, atol=1e-10
    )


@every_form
@pytest.mark.parametrize("level", [0.0, 0.1, 1e4 / 3])
def test_a_layer_that_is_all_dead_counts_as_0_and_says_so(debiased, level):
    x, y = pair()
    constant = torch.full_like(x, level)
    for pairs in ((constant, y), (y, constant), (constant, constant)):
        with pytest.warns(UserWarning, match="one side is constant") as caught:
            result = linear_cka(*pairs, debiased=debiased)
        assert result.value == result.floor == 0
        assert caught[0].filename == __file__


@pytest.mark.parametrize(("debiased", "n"), [(False, 2), (True, 3)])
def test_refuses_too_few_data_points(debiased, n):
    x, y = pair(n)
    with pytest.raises(ValueError, match=f"got {n} data points and needs at least {n + 1}"):
        linear_cka(x, y, debiased=debiased)
