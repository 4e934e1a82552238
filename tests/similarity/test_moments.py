from __future__ import annotations

import pytest
import torch

from innerloop.similarity import Moments, linear_cka, mean_cca, pwcca, svcca


def debiased_cka(x, y=None):
    return linear_cka(x, y, debiased=True)


MEASURES = (mean_cca, svcca, pwcca, linear_cka, debiased_cka)
every_measure = pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)


def pair(*shape, p=6, q=4, seed=0, dtype=torch.float64):
    """Activations that share a signal, with channels of different scales."""
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, p, generator=noise, dtype=torch.float64)
    mix = torch.randn(p, q, generator=noise, dtype=torch.float64)
    y = x @ mix / p**0.5 + torch.randn(*shape, q, generator=noise, dtype=torch.float64)
    scales = torch.linspace(0.3, 2, p, dtype=torch.float64)
    return (x * scales).to(dtype), y.relu().to(dtype)


@every_measure
@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("cuts", [[100, 100, 100], [1, 250, 49], [1] * 7 + [293]])
def test_batch_by_batch_is_one_go(measure, mean, cuts):
    x, y = pair(300)
    x, y = x + mean, y - 3 * mean
    x[:100] += 5  # batches that are not alike
    moments = Moments()
    for part_x, part_y in zip(x.split(cuts), y.split(cuts), strict=True):
        moments.add(part_x, part_y)
    whole, parts = measure(x, y), measure(moments)
    assert moments.points == parts.points == whole.points == 300
    torch.testing.assert_close(parts.value, whole.value, rtol=0, atol=1e-10)
    torch.testing.assert_close(parts.floor, whole.floor, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_moments_by_definition(mean):
    x, y = pair(50)
    moments = Moments()
    moments.add(x + mean, y + mean)
    a, b = x - x.mean(0), y - y.mean(0)
    for got, wanted in zip(moments.scatter(), (a.T @ a, b.T @ b, a.T @ b), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    long_x, long_y = a.square().sum(1), b.square().sum(1)
    for got, wanted in zip(moments.lengths(), (long_x @ long_x, long_y @ long_y, long_x @ long_y), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@every_measure
def test_batched_is_a_loop(measure):
    x, y = pair(3, 2, 80)
    x[0, 1, :, 2] = 7  # a dead channel in one task alone
    x[2, 0, :, 1] = 2 * x[2, 0, :, 0]
    result = measure(x, y)
    assert result.value.shape == result.floor.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            alone = measure(x[i, j], y[i, j])
            assert alone.value.shape == ()
            torch.testing.assert_close(result.value[i, j], alone.value, rtol=0, atol=1e-10)
            torch.testing.assert_close(result.floor[i, j], alone.floor, rtol=0, atol=1e-10)


@every_measure
def test_computes_in_float64_and_without_gradients(measure):
    x, y = pair(60, dtype=torch.float32)
    result = measure(x.requires_grad_(), y)
    assert result.value.dtype == torch.float64
    assert not result.value.requires_grad
    torch.testing.assert_close(result.value, measure(x.detach().double(), y.double()).value, rtol=0, atol=1e-12)


@every_measure
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_refuses_values_that_are_not_finite(measure, bad, side):
    activations = pair(60)
    activations[side][11, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(*activations)


def test_a_refused_batch_leaves_nothing_behind():
    x, y = pair(60)
    moments = Moments()
    with pytest.raises(ValueError, match="NaN"):
        moments.add(x * float("nan"), y)
    moments.add(x, y)
    with pytest.raises(ValueError, match="NaN"):
        moments.add(x, y * float("inf"))
    assert moments.points == 60
    assert mean_cca(moments).value == mean_cca(x, y).value


@every_measure
def test_refuses_what_does_not_pair_up(measure):
    x, y = pair(60)
    with pytest.raises(ValueError, match=r"x is \(60, 6\) and y is \(59, 4\).*same inputs"):
        measure(x, y[1:])
    with pytest.raises(ValueError, match="must agree"):
        measure(x[None], y)
    with pytest.raises(ValueError, match="data points by channels"):
        measure(x[:, 0], y[:, 0])
    with pytest.raises(ValueError, match="data points by channels"):
        measure(x[:0], y[:0])
    with pytest.raises(ValueError, match="two tensors"):
        measure(x)
    with pytest.raises(ValueError, match="one Moments alone"):
        measure(Moments(), y)
    with pytest.raises(ValueError, match="no data points yet"):
        measure(Moments())


@pytest.mark.parametrize("shape", [(5, 7, 6), (7, 5)])
def test_refuses_batches_unlike_the_first(shape):
    moments = Moments()
    moments.add(torch.ones(7, 6), torch.ones(7, 4))
    with pytest.raises(ValueError, match="unlike the batches before"):
        moments.add(torch.ones(shape), torch.ones(*shape[:-1], 4))
