"""The two forms give one number, and what fits into neither is refused before it is tried."""

from __future__ import annotations

import pytest
import torch

from innerloop.similarity import linear_cka, mean_cca, memory, procrustes, pwcca, svcca
from innerloop.similarity.gram import Gram
from innerloop.similarity.moments import Moments, gathered

MEASURES = {
    "cka": linear_cka,
    "debiased cka": lambda form: linear_cka(form, debiased=True),
    "cca": mean_cca,
    "svcca": lambda form: svcca(form, keep=0.9),
    "pwcca": pwcca,
    "procrustes": procrustes,
}


def pair(*leading: int, n: int = 40, p: int = 7, q: int = 5):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(*leading, n, p, generator=draw, dtype=torch.float64) * torch.linspace(0.1, 2, p)
    y = x @ torch.randn(*leading, p, q, generator=draw, dtype=torch.float64)
    return x + 100, y + torch.randn(*leading, n, q, generator=draw, dtype=torch.float64)


def moments(x, y):
    both = Moments()
    for part in zip(x.split(15, -2), y.split(15, -2), strict=True):
        both.add(*part)
    return both


@pytest.mark.filterwarnings("ignore:.*noise")
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("leading", [(), (2, 3)])
@pytest.mark.parametrize("few", [1, 2**22], ids=["a channel at a time", "all at once"])
def test_both_forms_agree(measure, leading, few, monkeypatch):
    monkeypatch.setattr("innerloop.similarity.gram._AT_ONCE", few)
    x, y = pair(*leading)
    x[..., 3] = 4.2  # a dead channel
    y = torch.cat([y, y[..., :1]], -1)  # one that stands twice
    one, other = MEASURES[measure](moments(x, y)), MEASURES[measure](Gram(x, y))
    torch.testing.assert_close(one.value, other.value, rtol=0, atol=1e-9)
    assert one.points == other.points == 40
    if hasattr(one, "floor"):
        torch.testing.assert_close(one.floor, other.floor, rtol=0, atol=1e-9)


def test_the_form_is_the_smaller_one():
    assert isinstance(gathered(*pair(n=40, p=7)), Moments)
    assert isinstance(gathered(*pair(n=6, p=7)), Gram)
    assert gathered(*pair(n=6, p=7)).widths == gathered(*pair(n=40, p=7)).widths == (7, 5)


@pytest.mark.filterwarnings("ignore:.*noise")
def test_wide_layers_take_little_memory():
    x = torch.randn(30, 2**16, generator=torch.Generator().manual_seed(0))  # 2^16 x 2^16 would be 137 GB with y
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    a, b = ((part - part.mean(0)) @ (part - part.mean(0)).T for part in (x.double(), y.double()))
    expected = float((a * b).sum() / (a.norm() * b.norm()))
    assert linear_cka(x, y).value.item() == pytest.approx(expected, abs=1e-9)
    assert 0 < svcca(x, y, keep=0.5).value <= 1


@pytest.mark.parametrize(("n", "form"), [(1000, "comparing 7 with 5 channels"), (6, "comparing 6 data points")])
def test_what_does_not_fit_says_how_much_it_takes(n, form, monkeypatch):
    monkeypatch.setattr(memory, "room", lambda device: 100)  # noqa: ARG005
    with pytest.raises(
        ValueError, match=rf"{form} .*needs 0\.\d MB of memory, and there are 0.0 MB: .*fewer data points"
    ):
        linear_cka(*pair(n=n))


def test_room_is_what_the_limits_leave():
    assert 2**20 < memory.room(torch.device("cpu")) < 2**60
