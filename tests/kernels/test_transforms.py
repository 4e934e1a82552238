"""The kernels under mixes of forward mode, reverse mode and vmap, to the third order: as PyTorch's own operations."""

from __future__ import annotations

import pytest
import torch
from small_net import X, Y, loss, maml, numbers, ours, params, usual
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

from innerloop.kernels import task_axis
from innerloop.kernels.batch_norm import halved, standardise
from innerloop.kernels.conv import convolve

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch.func.jvp itself
P, V, U = params(), params(10), params(20)
x, y = X[0], Y[0]


def total(tree):
    return sum(part.sin().sum() for part in tree)


MIXES = {
    "jvp": lambda net: jvp(net, (P, x), (V, X[1])),
    "jvp of a shift alone": lambda net: jvp(lambda b: net((P[0], b, P[2]), x), (P[1],), (V[1],)),
    "jvp of jvp": lambda net: jvp(lambda p: jvp(lambda p: net(p, x), (p,), (V,))[1], (P,), (U,)),
    "forward over reverse": lambda net: jvp(lambda p: grad(loss(net))(p, x, y), (P,), (V,)),
    "forward over reverse, by images too": lambda net: jvp(
        lambda p, x: grad(loss(net), (0, 1))(p, x, y), (P, x), (V, X[1])
    ),
    "reverse over forward": lambda net: grad(lambda p: jvp(lambda p: loss(net)(p, x, y), (p,), (V,))[1])(P),
    "reverse over forward over reverse": lambda net: grad(
        lambda p: total(jvp(lambda p: grad(loss(net))(p, x, y), (p,), (V,))[1])
    )(P),
    "forward twice over reverse": lambda net: jvp(
        lambda p: jvp(lambda p: grad(loss(net))(p, x, y), (p,), (V,))[1], (P,), (U,)
    ),
    "a batch of forward over reverse": lambda net: vmap(
        lambda x, y: jvp(lambda p: grad(loss(net))(p, x, y), (P,), (V,))[1]
    )(X, Y),
    "forward over a batch of reverse": lambda net: jvp(
        lambda p: vmap(lambda x, y: grad(loss(net))(p, x, y))(X, Y), (P,), (V,)
    ),
    "meta-gradient": lambda net: grad(lambda p: vmap(maml(net, 1), (None, 0, 0))(p, X, Y).sum())(P),
    "meta-gradients": lambda net: vmap(grad(maml(net, 1)), (None, 0, 0))(P, X, Y),
    "forward over meta-gradient": lambda net: jvp(
        grad(lambda p: vmap(maml(net, 1), (None, 0, 0))(p, X, Y).sum()), (P,), (V,)
    ),
    "third order": lambda net: grad(lambda p: vmap(maml(net, 2), (None, 0, 0))(p, X, Y).sum())(P),
}


@pytest.mark.parametrize("large", [0, 2**40], ids=["task by task", "as channels"])
@pytest.mark.parametrize("mix", MIXES)
def test_as_the_operations_of_pytorch(mix, large, monkeypatch):
    monkeypatch.setattr(task_axis, "LARGE", large)
    torch.testing.assert_close(MIXES[mix](ours), MIXES[mix](usual), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("graph", [False, True])
def test_dual_numbers_over_autograd(graph):
    def change(net):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(p.clone().requires_grad_(), v) for p, v in zip(P, V, strict=True)]
            gradients = torch.autograd.grad(loss(net)(tuple(duals), x, y), duals, create_graph=graph)
            if graph:
                gradients = torch.autograd.grad(total(gradients), duals)
            return [forward_ad.unpack_dual(part).tangent for part in gradients]

    torch.testing.assert_close(change(ours), change(usual), rtol=1e-9, atol=1e-9)


def test_a_mixed_mode_hessian_vector_product_by_finite_differences():
    step = 1e-6

    def gradient(sign: int) -> tuple[torch.Tensor, ...]:
        return grad(loss(ours))(tuple(p + sign * step * v for p, v in zip(P, V, strict=True)), x, y)

    product = jvp(lambda p: grad(loss(ours))(p, x, y), (P,), (V,))[1]
    for got, above, below in zip(product, gradient(1), gradient(-1), strict=True):
        torch.testing.assert_close(got, (above - below) / (2 * step), rtol=1e-5, atol=1e-5)


def test_no_images_at_all():
    none = numbers(0, 2, 8, 8).requires_grad_()
    weight, shift = numbers(3, 2, 3, 3).requires_grad_(), numbers(3).requires_grad_()
    for norm in (lambda x: standardise(x, 1e-3, shift), lambda x: halved(x, 1e-3) + shift.view(-1, 1, 1)):
        for stride, pads in ((1, (1, 1, 1, 1)), (2, (0, 1, 0, 1))):
            outputs = norm(convolve(none, weight, stride, pads))
            assert outputs.shape[:2] == (0, 3)
            for part in torch.autograd.grad(outputs.sum(), [none, weight, shift], materialize_grads=True):
                assert not part.any()


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("rule", ["maml", "anil"])
def test_predictions_go_forward_whatever_the_chunk(rule, chunk_size):
    """In the direction of the support images, against a difference quotient."""
    import innerloop

    torch.manual_seed(0)
    model, labels = innerloop.models.mlp(2, 3).double(), torch.arange(3).repeat(2, 2)
    x, query = torch.rand(2, 6, 2).double(), torch.rand(2, 4, 2).double()

    def outputs(x):
        task = innerloop.Episodes(x, labels, query, labels[:, :4])
        return innerloop.predict(model, task, getattr(innerloop, rule)(2, 0.1), chunk_size=chunk_size)

    _, got = torch.func.jvp(outputs, (x,), (torch.ones_like(x),))
    want = (outputs(x + 1e-6) - outputs(x - 1e-6)) / 2e-6
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
