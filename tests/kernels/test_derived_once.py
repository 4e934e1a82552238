"""Where gradients are asked for once, PyTorch's own kernels run, and every derivative stays right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import models
from innerloop.descent import loop_grad
from innerloop.kernels.function import derived_once
from innerloop.params import as_function


@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("size", [16, 18])
def test_first_and_second_derivatives_are_the_same(pooling, size):
    torch.manual_seed(0)
    model = models.conv4(3, size=size, width=8, pooling=pooling, norm=models.few_shot.reference_norm).double()
    x, params = torch.rand(4, 3, size, size).double(), dict(model.named_parameters())

    def twice() -> list[torch.Tensor]:
        value = nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0]))
        grads = torch.autograd.grad(value, list(params.values()), create_graph=True)
        total = torch.stack([g.square().sum() for g in grads]).sum()
        return [value, *grads, *torch.autograd.grad(total, list(params.values()), allow_unused=True)]

    want = twice()
    with derived_once():
        got = twice()
    for one, other in zip(got, want, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_loss_that_asks_for_gradients_itself():
    """In adaptation, where the library asks for them once."""
    torch.manual_seed(0)
    model = models.conv4(3, size=8, width=8, halvings=2).double()
    call, x = as_function(model), torch.rand(4, 3, 8, 8).double()

    def objective(params):
        given = x.clone().requires_grad_()
        outputs = call(params, given)
        (g,) = torch.autograd.grad(outputs.logsumexp(1).sum(), given, create_graph=True)
        return outputs.square().mean() + g.square().sum()

    params = dict(model.named_parameters())
    want = torch.autograd.grad(objective(params), list(params.values()), allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        got = loop_grad(objective)(params)
    for one, other in zip(got.values(), want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
