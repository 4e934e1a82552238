from __future__ import annotations

import warnings

import pytest
import torch

from innerloop.similarity import linear_cka, mean_cca, pwcca, svcca


def noise(times, n, p, q):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(times, n, p, generator=draw), torch.randn(times, n, q, generator=draw)


# Times, points, widths.
SIZES = [(1000, 75, 5, 5), (500, 15, 5, 5), (60, 40, 32, 32), (2, 10_000, 32, 32), (60, 90, 8, 40), (10_000, 20, 1, 1)]


@pytest.mark.filterwarnings("ignore:.*unrelated noise")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("measure", [mean_cca, pwcca, linear_cka], ids=lambda measure: measure.__name__)
def test_floor_is_what_noise_scores(size, measure):
    result = measure(*noise(*size))
    assert result.value.mean().item() == pytest.approx(result.floor.mean().item(), rel=0.08)


@pytest.mark.filterwarnings("ignore:.*unrelated noise")
def test_svcca_has_the_floor_of_the_directions_it_keeps():
    x, y = noise(100, 75, 20, 20)
    x[..., 5:] *= 1e-3
    y[..., 5:] *= 1e-3
    result = svcca(x, y)
    assert result.value.mean().item() == pytest.approx(result.floor.mean().item(), rel=0.05)
    assert result.floor.max() < mean_cca(x, y).floor.min()


@pytest.mark.filterwarnings("ignore:.*unrelated noise")
@pytest.mark.parametrize(("n", "width", "floor"), [(40, 32, 0.86), (10_000, 32, 0.047), (75, 5, 0.218)])
def test_floor_at_known_points(n, width, floor):
    result = mean_cca(*(part[0] for part in noise(1, n, width, width)))
    assert result.floor.item() == pytest.approx(floor, abs=0.006)


def test_floor_of_cka_is_its_mean_over_random_pairings():
    x, y = (part[0].relu() * torch.linspace(0.1, 1, part.shape[-1]) for part in noise(1, 30, 6, 9))
    draw = torch.Generator().manual_seed(1)
    orders = torch.stack([torch.randperm(30, generator=draw) for _ in range(3000)])
    shuffled = linear_cka(x.expand(3000, -1, -1), y[orders])
    assert shuffled.value.mean().item() == pytest.approx(linear_cka(x, y).floor.item(), rel=0.02)


@pytest.mark.parametrize(("points", "widths"), [(5, (1, 1)), (12, (20, 20)), (12, (1, 60)), (40, (3, 5))])
def test_debiased_cka_of_noise_is_0_give_or_take_its_floor(points, widths):
    result = linear_cka(*noise(2000, points, *widths), debiased=True)
    assert abs(result.value.mean()) < 0.02
    assert result.value.std().item() == pytest.approx(result.floor[0].item(), rel=0.1)


def test_debiased_cka_warns_where_noise_strays_far():
    with pytest.warns(UserWarning, match=r"4 data points: unrelated noise would score 0\.71"):
        linear_cka(*noise(3, 4, 9, 9), debiased=True)


@pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca, linear_cka], ids=lambda measure: measure.__name__)
def test_warns_where_noise_scores_high(measure):
    x, y = noise(3, 40, 32, 32)
    if measure is linear_cka:
        x, y = x[:, :20], y[:, :20]
    with pytest.warns(UserWarning, match=r"\d+ data points: unrelated noise would score 0\.[5-9]\d\.") as caught:
        result = measure(x, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert f"{result.floor.max():.2f}" in str(caught[0].message)


@pytest.mark.parametrize("measure", [mean_cca, svcca, pwcca, linear_cka], ids=lambda measure: measure.__name__)
@pytest.mark.parametrize("size", [(75, 5), (25, 5), (300, 32)])
def test_usual_sizes_pass_silently(measure, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(*noise(2, size[0], size[1], size[1]))
