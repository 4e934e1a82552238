from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop.similarity import mean_cca, pwcca, svcca

every_cca = pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca], ids=lambda measure: measure.__name__)
every_seed = pytest.mark.parametrize("seed", range(5))


def pair(n=200, p=7, q=5, seed=0, noise=1.0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, p)) @ draw.normal(size=(p, p))
    y = np.maximum(x @ draw.normal(size=(p, q)), 0) + noise * draw.normal(size=(n, q))
    return torch.from_numpy(x), torch.from_numpy(y)


def linear_map(width, seed=0):
    """Invertible, and far from a rotation: it stretches directions by up to 30."""
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.normal(size=(width, width)))[0] for _ in range(2))
    return torch.from_numpy(left * np.geomspace(0.1, 3, width) @ right)


def by_qr(x, y):
    """Canonical correlations by their definition: the cosines of the angles between two column spaces."""
    (left, _), (right, _) = (np.linalg.qr(part - part.mean(0)) for part in (x.numpy(), y.numpy()))
    return np.linalg.svd(left.T @ right, compute_uv=False)


def by_ridge(x, y, epsilon=1e-10):
    """As google/svcca: dead channels dropped, blocks of np.cov over their largest entry, epsilon on the diagonal."""
    x, y = x.numpy().T, y.numpy().T
    both = np.cov(x, y)
    blocks = [both[: len(x), : len(x)], both[len(x) :, len(x) :], both[: len(x), len(x) :]]
    sizes = [abs(block).max() for block in blocks[:2]]
    live = [np.diag(block) / size >= epsilon for block, size in zip(blocks, sizes, strict=False)]
    roots = []
    for block, size, alive in zip(blocks, sizes, live, strict=False):
        values, vectors = np.linalg.eigh(block[np.ix_(alive, alive)] / size + epsilon * np.eye(alive.sum()))
        roots.append(vectors / np.sqrt(values) @ vectors.T)
    across = blocks[2][np.ix_(*live)] / np.sqrt(sizes[0] * sizes[1])
    return np.linalg.svd(roots[0] @ across @ roots[1], compute_uv=False)


@every_seed
@pytest.mark.parametrize("widths", [(7, 5), (5, 7), (1, 1), (1, 6), (6, 6)])
def test_mean_cca_by_definition(seed, widths):
    x, y = pair(60, *widths, seed=seed)
    result = mean_cca(x, y)
    np.testing.assert_allclose(result.coefficients, by_qr(x, y), atol=1e-10)
    assert result.value.item() == pytest.approx(by_qr(x, y).mean(), abs=1e-10)
    assert result.points == 60
    assert 0 <= result.value <= 1


@every_seed
def test_mean_cca_as_google_svcca(seed):
    x, y = pair(seed=seed)
    x[:, 3] = 0.25
    y[:, 0] = 0
    assert mean_cca(x, y).value.item() == pytest.approx(by_ridge(x, y).mean(), abs=1e-7)
    assert mean_cca(x, y).value.item() == pytest.approx(by_qr(x[:, [0, 1, 2, 4, 5, 6]], y[:, 1:]).mean(), abs=1e-10)


def leading(x, share):
    """The principal components of x that explain this share of its variance."""
    centred = x.numpy() - x.numpy().mean(0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    explained = np.cumsum(lengths**2) / (lengths**2).sum()
    return torch.from_numpy((left * lengths)[:, : np.searchsorted(explained, share) + 1])


@every_seed
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_svcca_by_definition(seed, keep):
    x, y = pair(p=9, q=8, seed=seed)
    wanted = by_qr(leading(x, keep), leading(y, keep))
    result = svcca(x, y, keep=keep)
    assert result.value.item() == pytest.approx(wanted.mean(), abs=1e-10)
    np.testing.assert_allclose(result.coefficients[: len(wanted)], wanted, atol=1e-10)
    assert not result.coefficients[len(wanted) :].any()


@every_seed
@pytest.mark.parametrize("widths", [(7, 5), (5, 7), (6, 6)])
def test_pwcca_by_definition(seed, widths):
    x, y = pair(60, *widths, seed=seed)
    if widths[0] > widths[1]:  # the weights come from the narrower side
        x, y = y, x
    a, b = (part.numpy() - part.numpy().mean(0) for part in (x, y))
    left, right = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
    turn, coefficients, _ = np.linalg.svd(left.T @ right, full_matrices=False)
    weights = abs((left @ turn).T @ a).sum(1)
    wanted = (weights * coefficients).sum() / weights.sum()
    assert pwcca(x, y).value.item() == pytest.approx(wanted, abs=1e-10)
    assert pwcca(x + 100, y - 50).value.item() == pytest.approx(wanted, abs=1e-10)  # centred
    if widths[0] != widths[1]:
        assert pwcca(y, x).value.item() == pytest.approx(wanted, abs=1e-10)


@every_seed
def test_mean_cca_ignores_shifts_and_invertible_maps(seed):
    x, y = pair(seed=seed)
    value = mean_cca(x, y).value
    for other_x, other_y in [
        (x + 30, y - 7),
        (x @ linear_map(7, seed), y),
        (x, y @ linear_map(5, seed)),
        (x @ linear_map(7) * 1e6, y @ linear_map(5) * 1e-6 + 1),
        (x.flip(1), y),
    ]:
        torch.testing.assert_close(mean_cca(other_x, other_y).value, value, rtol=0, atol=1e-8)
    torch.testing.assert_close(mean_cca(y, x).value, value, rtol=0, atol=1e-10)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(mean_cca(x[order], y[order]).value, value, rtol=0, atol=1e-10)
    assert abs(mean_cca(x[order], y).value - value) > 0.1


@every_seed
def test_svcca_ignores_shifts_and_rotations_but_not_stretching(seed):
    x, y = pair(p=12, q=9, seed=seed)
    turn = torch.linalg.qr(linear_map(12, seed))[0]
    value = svcca(x, y, keep=0.9).value
    torch.testing.assert_close(svcca(x @ turn * 3 + 5, y, keep=0.9).value, value, rtol=0, atol=1e-9)
    torch.testing.assert_close(svcca(y, x, keep=0.9).value, value, rtol=0, atol=1e-10)
    assert abs(svcca(x @ linear_map(12, seed), y, keep=0.9).value - value) > 1e-4
    torch.testing.assert_close(svcca(x, y, keep=1).value, mean_cca(x, y).value, rtol=0, atol=1e-10)


@every_seed
def test_pwcca_ignores_maps_of_the_wider_side(seed):
    x, y = pair(seed=seed)
    value = pwcca(x, y).value
    torch.testing.assert_close(pwcca(x @ linear_map(7, seed), y * 3 + 1).value, value, rtol=0, atol=1e-9)
    assert abs(pwcca(x, y @ linear_map(5, seed)).value - value) > 1e-4


@every_cca
@every_seed
def test_a_layer_is_one_with_itself(measure, seed):
    x = pair(seed=seed)[0].float().relu()
    double = torch.cat([x, x[:, :2], 3 * x[:, 2:3] - 1], 1)
    dead = torch.cat([torch.zeros(len(x), 1), x, torch.full((len(x), 2), 0.1)], 1)
    tiny = x * torch.tensor([1, 1e-3, 1, 1, 1, 1, 1e-4])
    for layer in (x, x + 1e4, 1e-12 * x, double, dead, torch.cat([dead, double], 1), tiny):
        assert measure(layer, layer).value.item() == pytest.approx(1, abs=1e-6)


@every_cca
def test_dead_channels_change_nothing(measure):
    x, y = pair()
    dead = torch.cat([x, torch.full((200, 3), 4.2)], 1), torch.cat([torch.zeros(200, 1), y], 1)
    wanted, result = measure(x, y), measure(*dead)
    torch.testing.assert_close(result.value, wanted.value, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.floor, wanted.floor, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.coefficients[:5], wanted.coefficients, rtol=0, atol=1e-10)
    assert not result.coefficients[5:].any()


@every_cca
@pytest.mark.parametrize("level", [0.0, 0.1, 1e4 / 3])
def test_a_layer_that_is_all_dead_counts_as_0_and_says_so(measure, level):
    x, y = pair()
    constant = torch.full_like(x, level)
    for pairs in ((constant, y), (y, constant), (constant, constant)):
        with pytest.warns(UserWarning, match="one side is constant over all data points, which counts as 0"):
            result = measure(*pairs)
        assert result.value == result.floor == 0
    with pytest.warns(UserWarning, match="in 1 of 2 pairs"):
        assert measure(torch.stack([x, constant]), torch.stack([y, y])).value[1] == 0


@every_cca
@pytest.mark.parametrize("n", [2, 20, 32, 33])
def test_refuses_too_few_data_points(measure, n):
    x = torch.randn(n, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"32 and 32 channels got {n} data points.*at least 34"):
        measure(x, x.flip(0), **({"keep": 1.0} if measure is svcca else {}))


def test_svcca_takes_more_channels_than_data_points():
    draw = torch.Generator().manual_seed(0)
    signal = torch.randn(60, 4, generator=draw)
    x, y = (
        signal @ torch.randn(4, 100, generator=draw) + 0.01 * torch.randn(60, 100, generator=draw) for _ in range(2)
    )
    with pytest.raises(ValueError, match="svcca"):
        mean_cca(x, y)
    assert svcca(x, y).value > 0.99
    assert svcca(x, y).floor < 0.3


@pytest.mark.parametrize("keep", [0, -1, 1.01])
def test_svcca_refuses_a_wrong_share(keep):
    with pytest.raises(ValueError, match="share of variance"):
        svcca(*pair(), keep=keep)
