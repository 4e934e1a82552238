"""The rules are values; the example of the ANIL paper's appendix; NIL against a naive loop."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial

import oracle
import pytest
import torch
from cases import CASES, DEVICE, Plain, close
from torch import nn

from innerloop.algorithms import anil, boil, fomaml, freeze, maml
from innerloop.evaluation import evaluate
from innerloop.inner import InnerLoop
from innerloop.outer import meta_gradient
from innerloop.predictors import NIL, features
from innerloop.tasks import Episodes


def test_a_rule_is_a_value():
    assert maml() == InnerLoop()
    assert fomaml(3, 0.4) == InnerLoop(steps=3, lr=0.4, first_order=True)
    assert anil(2, 0.1) == InnerLoop(adapt=("head.*",), steps=2, lr=0.1)
    assert anil(head="fc").adapt == ("fc.*",)
    assert boil(head="fc").adapt == ("*", "!fc.*")
    assert freeze(maml(3), "block1", "block2") == InnerLoop(("*", "!block1.*", "!block2.*"), 3)
    assert freeze(fomaml(), "block1").first_order
    assert len({maml(), maml(), anil(), NIL(), NIL()}) == 3


def nil_of(model, episodes, body, way, statistics="query", temperature=1.0):
    """The oracle's NIL, task by task; `body` is a naive forward pass up to the head."""
    rows = []
    for support_x, support_y, query_x in zip(*episodes[:3], strict=True):
        support = body(model, support_x)
        query = oracle.query_outputs(
            lambda params, x, norm: body(params, x, norm), model, support_x, query_x, statistics
        )
        rows.append(oracle.nil(support, support_y, query, way, temperature))
    return torch.stack(rows)


def two_blocks_body(params, x, norm=oracle.own):
    """The features of the case "two blocks", (n, 20)."""
    identity = {"head.weight": torch.eye(20, dtype=x.dtype, device=x.device), "head.bias": x.new_zeros(20)}
    return CASES["two blocks"].forward({**params, **identity}, x, norm)


@pytest.mark.parametrize("wrap", [lambda model: model, Plain], ids=["Sequential", "hook"])
@pytest.mark.parametrize("statistics", ["query", "support", "image"])
@pytest.mark.parametrize("shot", [1, 3])
def test_nil_is_the_naive_loop_and_differentiable(wrap, statistics, shot):
    case = CASES["two blocks"]
    model, episodes = wrap(case.build()), case.episodes(shot=shot)
    params = dict(model.named_parameters())
    want = nil_of(params, episodes, two_blocks_body, case.way, statistics, 0.5)
    body = [parameter for name, parameter in params.items() if "head" not in name]
    want_grads = torch.autograd.grad(case.loss(want.flatten(0, 1), episodes.query_y.flatten()), body)
    for chunk_size in (1, 2, None):
        model.zero_grad()
        close(NIL(temperature=0.5, statistics=statistics)(model, episodes, chunk_size=chunk_size)[0], want)
        meta_gradient(model, episodes, NIL(case.way, temperature=0.5, statistics=statistics), chunk_size=chunk_size)
        for parameter, grad in zip(body, want_grads, strict=True):
            close(parameter.grad, grad)
        assert all(p.grad is None or not p.grad.any() for name, p in params.items() if "head" in name)


def test_nil_gives_log_probabilities_for_uneven_shots():
    case = CASES["two blocks"]
    model, episodes = case.build(), case.episodes(shot=2)
    uneven = episodes._replace(support_y=torch.tensor([[0, 0, 0, 0, 1, 2, 2, 3]] * 3, device=DEVICE))
    outputs = NIL()(model, uneven)[0]
    close(outputs, nil_of(dict(model.named_parameters()), uneven, two_blocks_body, case.way))
    close(outputs.exp().sum(-1), torch.ones(3, 5, dtype=torch.float64))
    sharp = NIL(temperature=1e-4, statistics="support")(model, uneven._replace(query_x=uneven.support_x))[0]
    assert torch.equal(sharp.argmax(-1), uneven.support_y), "a support image is nearest to itself"


def test_nil_with_a_way_that_the_support_lacks():
    case = CASES["two blocks"]
    outputs = NIL(way=6)(case.build(), case.episodes())[0]
    assert outputs.shape == (3, 5, 6)
    assert outputs.isfinite().all(), "a class without support is improbable, not impossible to take a loss of"
    assert (outputs[..., 4:] < -60).all()


@pytest.mark.parametrize("chunk_size", [1, None])
def test_nil_refuses_labels_beyond_its_way(chunk_size):
    case = CASES["two blocks"]
    episodes = Episodes(*(part.cpu() for part in case.episodes()))
    with pytest.raises(ValueError, match="label"):
        NIL(way=2)(case.build().cpu(), episodes, chunk_size=chunk_size)


def test_nil_takes_no_step():
    case = CASES["two blocks"]
    model, episodes = case.build(), case.episodes()
    one = NIL()(model, episodes)
    every = NIL()(model, episodes, every_step=True)
    assert len(one) == 1
    assert torch.equal(every, one)
    score = evaluate(model, [episodes], NIL())
    assert len(score.per_step) == 1


def test_features_leave_the_head_out():
    model = CASES["two blocks"].build()
    x = CASES["two blocks"].episodes().query_x[0]
    want = two_blocks_body(dict(model.named_parameters()), x)
    plain = Plain(model)
    close(features(model)(x), want)
    close(features(plain)(x), want)
    assert not plain.head._forward_pre_hooks, "the hook is gone"
    nested = nn.Sequential(OrderedDict(net=plain, scores=nn.Softmax(1)))
    close(features(nested, "net.head")(x), want)

    class Named(nn.Sequential):
        def __init__(self, width: int) -> None:
            super().__init__(OrderedDict(body=nn.Linear(3, width), head=nn.Linear(width, 2)))

    named = Named(4)
    assert features(named)(torch.zeros(1, 3)).shape == (1, 4)


def test_a_head_that_is_not_there_is_named():
    model, episodes = CASES["two blocks"].build(), CASES["two blocks"].episodes()
    with pytest.raises(ValueError, match=r"no module 'fc' to leave out. It has: block1"):
        NIL(head="fc")(model, episodes)
    with pytest.raises(ValueError, match="no module '' to leave out"):
        NIL(head="")(model, episodes)

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = model, nn.Linear(2, 2)

        def forward(self, x):
            return self.body(x)

    unused = Unused()
    with pytest.raises(ValueError, match="never calls its module 'head'"):
        NIL()(unused, episodes)
    assert not unused.head._forward_pre_hooks


C1_RATE = 0.4


def c1_maml(a, b, x, y, u, v, r=C1_RATE):
    """y = b (a x) with the head b, L = (y - target)^2 / 2, one step at rate r on (x, y), then L at (u, v).

    With e = abx - y the support error, a' = a - r b x e and b' = b - r a x e; f = a'b'u - v is the query error.
    As de/da = bx and de/db = ax: da'/da = 1 - r b^2 x^2, db'/db = 1 - r a^2 x^2, da'/db = db'/da = -r x (e + abx).
    So dL/da = f u (da'/da b' + a' db'/da) and dL/db = f u (da'/db b' + a' db'/db).
    """
    e = a * b * x - y
    a1, b1 = a - r * b * x * e, b - r * a * x * e
    f, cross = a1 * b1 * u - v, -r * x * (e + a * b * x)
    da = f * u * ((1 - r * b**2 * x**2) * b1 + a1 * cross)
    return f**2 / 2, da, f * u * (cross * b1 + a1 * (1 - r * a**2 * x**2))


def c1_fomaml(a, b, x, y, u, v, r=C1_RATE):
    """As MAML, with da'/da = db'/db = 1 and the mixed derivatives 0."""
    e = a * b * x - y
    a1, b1 = a - r * b * x * e, b - r * a * x * e
    f = a1 * b1 * u - v
    return f**2 / 2, f * u * b1, f * u * a1


def c1_anil(a, b, x, y, u, v, r=C1_RATE):
    """As MAML, with a' = a: da'/da = 1 and da'/db = 0."""
    e = a * b * x - y
    b1 = b - r * a * x * e
    f = a * b1 * u - v
    return f**2 / 2, f * u * (b1 - a * r * x * (e + a * b * x)), f * u * a * (1 - r * a**2 * x**2)


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize(("rule", "closed_form"), [(maml, c1_maml), (fomaml, c1_fomaml), (anil, c1_anil)])
def test_the_example_of_the_papers_appendix_c1(rule, closed_form, chunk_size):
    a, b = 0.7, -1.3
    tasks = [(0.5, 1.1, -0.8, 0.3), (1.7, -0.2, 0.6, 0.9), (-0.4, 0.5, 1.2, -1.0)]  # x, y, u, v
    episodes = Episodes(*torch.tensor(tasks, dtype=torch.float64, device=DEVICE)[:, :, None, None].unbind(1))
    line = partial(nn.Linear, 1, 1, bias=False, dtype=torch.float64, device=DEVICE)
    model = nn.Sequential(OrderedDict(body=line(), head=line()))
    nn.init.constant_(model.body.weight, a)
    nn.init.constant_(model.head.weight, b)

    def half_square(outputs, targets):
        return (outputs - targets).square().mean() / 2

    loss, accuracy = meta_gradient(model, episodes, replace(rule(1, C1_RATE), loss=half_square), chunk_size=chunk_size)
    want = [sum(values) / len(tasks) for values in zip(*(closed_form(a, b, *task) for task in tasks), strict=True)]
    assert [loss.item(), model.body.weight.grad.item(), model.head.weight.grad.item()] == pytest.approx(want, abs=1e-13)
    assert accuracy is None
