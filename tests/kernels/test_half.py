"""Half precision: under autocast and by itself, as close to float32 as PyTorch's own operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_net import X, Y, ours, params, plain
from torch.func import grad, vmap

HALVES = [torch.bfloat16, torch.float16]
P, x, y = tuple(p.float() for p in params()), X.float(), Y.float()


def usual(p, x):
    """As PyTorch does under autocast: convolutions in half precision, norms in float32 inside."""
    x = F.conv2d(x, p[0], None, 1, 1)
    x = plain(x.float()).to(x.dtype) + p[1].to(x.dtype).view(-1, 1, 1)
    x = F.conv2d(F.pad(x.relu(), (0, 1, 0, 1)), p[2], None, 2)
    return F.max_pool2d(plain(x.float()).to(x.dtype), 2).flatten(1)


def task(net):
    def objective(p, x, y):
        def loss(p):
            return (net(p, x).float() - y).square().mean()

        return loss(tuple(a - 0.1 * b for a, b in zip(p, grad(loss)(p), strict=True)))

    return objective


def apart(got, want):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("whole", [False, True], ids=["loss under autocast", "backward pass too"])
def test_meta_gradients_under_autocast(dtype, batched, whole):
    def meta(net, autocast, batched=False):
        p = tuple(part.clone().requires_grad_() for part in P)
        objective = task(net)
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            if batched:
                value = vmap(objective, (None, 0, 0))(p, x, y).mean()
            else:
                value = torch.stack([objective(p, *task) for task in zip(x, y, strict=True)]).mean()
            if whole:
                return value, torch.autograd.grad(value, p)
        return value, torch.autograd.grad(value, p)

    exact, rounded, got = meta(usual, False), meta(usual, True), meta(ours, True, batched)
    assert all(part.dtype == torch.float32 for part in got[1])
    noise = apart(rounded[1], exact[1])
    assert 1e-5 < noise < 0.5, "autocast must round, and not more"
    assert apart(got[1], exact[1]) < 4 * noise
    assert abs(got[0] - exact[0]) < 0.05 * exact[0]


@pytest.mark.parametrize("dtype", HALVES)
def test_types_stay(dtype):
    p, images = tuple(part.to(dtype).requires_grad_() for part in P), x[0].to(dtype)
    outputs = ours(p, images)
    assert outputs.dtype == dtype
    gradients = torch.autograd.grad(outputs.square().sum(), p, create_graph=True)
    again = torch.autograd.grad(sum(part.square().sum() for part in gradients), p)
    for part in (*gradients, *again):
        assert part.dtype == dtype
        assert part.isfinite().all()
    torch.testing.assert_close(outputs.float(), ours(P, x[0]), rtol=0.1, atol=0.1)


def test_autocast_leaves_float64_alone():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ours(params(), X[0])
    torch.testing.assert_close(got, ours(params(), X[0]))
