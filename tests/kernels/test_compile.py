"""Under torch.compile, meta-gradients are what they are without: it traced first order alone once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_net import X, Y, maml, ours, params
from torch.func import functional_call, grad, vmap

from innerloop.models import mini_imagenet_net, omniglot_net

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
P = params()


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batched(p):
    return vmap(maml(ours, 2), (None, 0, 0))(p, X, Y).sum()


def looped(p):
    return sum(maml(ours, 2)(p, x, y) for x, y in zip(X, Y, strict=True))


BACKENDS = ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("objective", [batched, pytest.param(looped, marks=pytest.mark.slow)])
def test_a_compiled_gradient(objective, backend):
    got = torch.compile(grad(objective), backend=backend, fullgraph=True)(P)
    torch.testing.assert_close(got, grad(objective)(P), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_loss_with_its_backward_pass_outside(backend):
    p = tuple(part.clone().requires_grad_() for part in P)
    torch.compile(batched, backend=backend, fullgraph=True)(p).backward()
    torch.testing.assert_close(tuple(part.grad for part in p), grad(batched)(P), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("build", [omniglot_net, mini_imagenet_net])
def test_whole_networks(build):
    draw = torch.Generator().manual_seed(0)
    net = build(3, width=4, size=16, generator=draw).double()
    channels = net.block1.conv.in_channels
    x, y = torch.randn(2, 6, channels, 16, 16, generator=draw, dtype=torch.float64), torch.arange(3).repeat(2)
    p = {name: part.detach() for name, part in net.named_parameters()}

    def task(p, x):
        def loss(p):
            return F.cross_entropy(functional_call(net, p, (x,)), y)

        return loss({name: p[name] - 0.3 * g for name, g in grad(loss)(p).items()})

    def objective(p):
        return vmap(task, (None, 0))(p, x).sum()

    got = torch.compile(grad(objective), backend="aot_eager", fullgraph=True)(p)
    torch.testing.assert_close(got, grad(objective)(p), rtol=1e-9, atol=1e-9)
