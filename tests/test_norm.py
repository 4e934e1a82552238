"""Whose statistics normalise a query image: against the oracle at every layer, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial

import oracle
import pytest
import torch
from cases import CASES, DEVICE, RULES, Plain, close, expected
from torch import nn

from innerloop.algorithms import anil, fomaml, freeze, maml
from innerloop.inner import adapt, adapted, predict
from innerloop.models import conv4
from innerloop.norm import TaskNorm, describe_statistics, settled, statistics_from, task_norms
from innerloop.outer import meta_gradient
from innerloop.predictors import NIL, bind
from innerloop.split import Parts
from innerloop.tasks import Episodes

BATCHED = [(case, kind) for case in CASES for kind in CASES[case].statistics if kind != "query"]


@pytest.mark.parametrize(("case_name", "statistics"), BATCHED)
@pytest.mark.parametrize("rule_name", ["maml", "anil"])
def test_each_norm_is_the_oracles_at_every_layer(case_name, statistics, rule_name):
    case = CASES[case_name]
    outputs, loss, grads = expected(case_name, rule_name, statistics)
    for chunk_size in (1, None):
        model, inner, episodes = case.build(), RULES[rule_name].make(case, statistics), case.episodes()
        value, _ = meta_gradient(model, episodes, inner, chunk_size=chunk_size)
        close(value, loss)
        for name, parameter in model.named_parameters():
            close(parameter.grad, grads[name])
        close(predict(model, episodes, inner, chunk_size=chunk_size, every_step=True), outputs)


@pytest.mark.parametrize(("statistics", "depends"), [("query", True), ("support", False), ("image", False)])
@pytest.mark.parametrize("rule", [maml(2, 0.3), anil(2, 0.3), NIL(4)], ids=["maml", "anil", "nil"])
def test_whether_a_prediction_depends_on_the_other_queries(rule, statistics, depends):
    rule = replace(rule, statistics=statistics)
    case = CASES["two blocks"]
    model, episodes = case.build(), case.episodes()
    others = episodes.query_x.clone()
    others[:, 1:] = 3 * others[:, 1:].flip(-1) + 1
    one = rule(model, episodes)[0, :, 0]
    other = rule(model, episodes._replace(query_x=others))[0, :, 0]
    alone = rule(model, episodes._replace(query_x=others[:, :1]))[0, :, 0]
    for prediction in (other, alone):
        assert ((one - prediction).abs().max() > 1e-3) == depends
        if not depends:
            close(prediction, one)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (4, 3, 5, 2)])
def test_a_task_norm_is_its_formula(scale, shape):
    generator = torch.Generator().manual_seed(0)
    norm, x = TaskNorm(3, scale=scale, eps=0.01).double(), torch.randn(shape, generator=generator, dtype=torch.float64)
    nn.init.normal_(norm.bias, generator=generator)
    weight = nn.init.normal_(norm.weight, generator=generator) if scale else torch.ones(3)
    assert (norm.weight is None) == (not scale)
    view = (3, *[1] * (len(shape) - 2))
    for first in (None, 2):
        moments = oracle.moments(x[:first])
        want = oracle.standardise(x, moments, 0.01) * weight.view(view) + norm.bias.view(view)
        with nullcontext() if first is None else statistics_from(first):
            close(norm(x), want, 1e-12)
            close(norm.eval()(x), norm.train()(x), 0)
    assert str(norm) == f"TaskNorm(3, scale={scale}, eps=0.01)"
    assert not list(norm.buffers()), "no memory"


def test_one_value_a_channel_is_an_error_that_says_what_to_do():
    norm = TaskNorm(3)
    for x in (torch.zeros(1, 3), torch.zeros(1, 3, 1, 1)):
        with pytest.raises(ValueError, match=r'one value a channel .*Use more images a task, larger images.*"support"'):
            norm(x)
    norm(torch.zeros(2, 3))
    norm(torch.zeros(1, 3, 1, 2))
    with statistics_from(1), pytest.raises(ValueError, match="one value a channel"):
        norm(torch.zeros(4, 3))
    small = CASES["conv4"]  # one pixel an image is left in the last block
    for chunk_size in (1, None):
        with pytest.raises(ValueError, match="one value a channel"):
            predict(small.build(), small.episodes(), replace(anil(1), statistics="image"), chunk_size=chunk_size)


def test_the_statistics_end_with_their_block():
    norm, x = TaskNorm(2), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    before = norm(x)
    with pytest.raises(RuntimeError), statistics_from(2):
        raise RuntimeError
    assert torch.equal(norm(x), before)


FUSED = {
    "BatchNorm2d": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "LayerNorm": lambda: nn.LayerNorm([4, 6, 6]),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True),
}


def net(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    layers = OrderedDict(conv=nn.Conv2d(2, 4, 3), norm=norm, act=nn.Tanh(), flat=nn.Flatten(), head=nn.Linear(144, 4))
    return nn.Sequential(layers).double().to(DEVICE)


def gradients(model: nn.Module, rule, chunk_size: int | None) -> torch.Tensor:
    model.zero_grad()
    meta_gradient(model, CASES["two blocks"].episodes(), rule, chunk_size=chunk_size)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_norm_runs_task_by_task_where_batching_it_would_be_wrong(kind):
    model = net(FUSED[kind]())
    for rule in (maml(2, 0.3), fomaml(2, 0.3), freeze(maml(2, 0.3), "norm"), anil(2, 0.3)):
        close(gradients(model, rule, None), gradients(model, rule, 1))
    episodes = CASES["two blocks"].episodes()
    adapt(model, episodes.support_x[0], episodes.support_y[0], maml(2))
    with torch.no_grad():  # as in `evaluate`: there is no second-order gradient to get wrong
        close(predict(model, episodes, maml(2)), predict(model, episodes, maml(2), chunk_size=1))


class Own(nn.Module):
    """A norm as people write it."""

    def __init__(self, *, scale: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4, 6, 6)) if scale else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, x.shape[1:], self.gain)


def test_a_fused_norm_that_is_called_as_a_function_is_seen_too():
    for model in (net(Own(scale=True)), net(Own(scale=False))):
        for rule in (maml(2, 0.3), freeze(maml(2, 0.3), "conv")):
            close(gradients(model, rule, None), gradients(model, rule, 1))


@pytest.mark.parametrize("kind", FUSED)
def test_the_upstream_bug_is_still_there(kind, monkeypatch):
    monkeypatch.setattr(Parts, "loops", lambda *_: False)
    model = net(FUSED[kind]())
    loop, batched = (gradients(model, maml(2, 0.3), chunk_size) for chunk_size in (1, None))
    assert (loop - batched).abs().max() > 1e-6, (
        f"torch {torch.__version__} has mended pytorch/functorch#534 for {kind}: "
        "drop it from `_FUSED` in innerloop/watch.py, and this case"
    )


@pytest.mark.parametrize("kind", ["GroupNorm", "RMSNorm", "TaskNorm"])
def test_other_norms_are_right_in_batches(kind):
    norm = {"GroupNorm": lambda: nn.GroupNorm(2, 4), "RMSNorm": lambda: nn.RMSNorm(6), "TaskNorm": lambda: TaskNorm(4)}
    model = net(norm[kind]())
    close(gradients(model, maml(2, 0.3), None), gradients(model, maml(2, 0.3), 1))


def test_running_statistics_are_refused_in_train_mode():
    model = net(nn.BatchNorm2d(4))
    episodes = CASES["two blocks"].episodes()
    for call in (
        lambda: predict(model, episodes, anil(1)),
        lambda: predict(model, episodes, anil(1), chunk_size=1),
        lambda: adapt(model, episodes.support_x[0], episodes.support_y[0], anil(1)),
        lambda: NIL()(model, episodes),
    ):
        with pytest.raises(ValueError, match=r"norm is a BatchNorm2d.*TaskNorm.*track_running_stats=False.*eval\(\)"):
            call()
    model.eval()
    kept = model.norm.running_mean.clone()
    want = predict(Plain(model).eval(), episodes, anil(2), chunk_size=1)
    close(predict(model, episodes, anil(2)), want)
    close(predict(model, episodes, replace(anil(2), statistics="image")), want)
    assert torch.equal(model.norm.running_mean, kept)


def test_a_plain_batch_norm_cannot_use_the_support_set():
    model, episodes = net(FUSED["BatchNorm2d"]()), CASES["two blocks"].episodes()
    with pytest.raises(ValueError, match=r'cannot use the support set.*TaskNorm or statistics="image"'):
        predict(model, episodes, replace(anil(1), statistics="support"))
    predict(model, episodes, replace(anil(1), statistics="image"))
    with pytest.raises(ValueError, match="statistics must be one of query, support, image, got 'batch'"):
        predict(model, episodes, replace(anil(1), statistics="batch"))


def test_a_norm_that_is_the_whole_model_or_the_head_is_seen():
    x, y = torch.randn(2, 4, 3).double(), torch.tensor([[0, 1, 2, 0]] * 2)
    chain = nn.Sequential(OrderedDict(body=nn.Linear(3, 3), head=nn.LayerNorm(3))).double()
    for model, rule in ((nn.LayerNorm(3).double(), maml(2, 0.3)), (chain, anil(2, 0.3))):
        assert bind(model, rule)._parts_for(x[0], y[0])[1].fused
        predict(model, Episodes(x, y, x, y), rule)


def counting(build):
    """A model whose norm gathers running statistics, called as a function."""

    class Gathers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("variance", torch.ones(3))

        def forward(self, x):
            return self.head(build(self, x))

    return Gathers().double()


def test_a_batch_norm_that_is_called_as_a_function_is_seen_too():
    x, y = torch.randn(2, 4, 3).double(), torch.tensor([[0, 1, 2, 0]] * 2)
    gathers = counting(lambda m, x: nn.functional.batch_norm(x, m.mean, m.variance, training=True))
    for rule in (maml(1), NIL()):
        with pytest.raises(ValueError, match="the model calls a norm that gathers running statistics"):
            rule(gathers, Episodes(x, y, x, y))
    assert not gathers.mean.any(), "looking leaves no trace"
    batch = counting(lambda m, x: nn.functional.batch_norm(x, None, None, training=True))  # noqa: ARG005
    for rule in (maml(1, statistics="support"), NIL(statistics="support")):
        with pytest.raises(ValueError, match="the model calls a batch norm, which cannot use the support set's"):
            rule(batch, Episodes(x, y, x, y))
    running = counting(lambda m, x: nn.functional.batch_norm(x, m.mean, m.variance))
    maml(1, statistics="support")(running, Episodes(x, y, x, y))


@pytest.mark.parametrize("size", [16, 8])
def test_a_settled_network_answers_one_image_as_many(size):
    torch.manual_seed(0)
    build = partial(conv4, 4, channels=2, size=16, width=4) if size == 16 else partial(net, TaskNorm(4))
    model = build().double().to(DEVICE)
    support, query = (
        torch.randn(6, 2, size, size).double().to(DEVICE),
        torch.randn(5, 2, size, size).double().to(DEVICE),
    )
    kept = settled(model, support)
    with statistics_from(6):
        want = model(torch.cat([support, query]))[6:]
    close(kept(query), want)
    close(torch.cat([kept(image) for image in query.split(1)]), want)
    assert any(isinstance(module, TaskNorm) for module in model.modules()), "it is a copy"
    close(deepcopy(kept).train()(query), want)


@pytest.mark.parametrize("start", ["learnt", "zero"])
def test_an_adapted_network_stands_alone(start):
    torch.manual_seed(0)
    model = conv4(3 if start == "learnt" else 7, channels=2, size=16, width=4).double().to(DEVICE)
    support_x, query_x = (torch.randn(n, 2, 16, 16).double().to(DEVICE) for n in (6, 5))
    support_y = torch.arange(3).repeat(2).to(DEVICE)
    rule = maml(2, 0.1, statistics="support", head_start=start)
    want = predict(model, Episodes(support_x[None], support_y[None], query_x[None], support_y[None]), rule)[0, 0]
    learnt = adapted(model, support_x, support_y, rule)
    close(learnt(query_x), want)
    close(torch.cat([learnt(image) for image in query_x.split(1)]), want)


def test_batch_norms_become_task_norms():
    model = nn.Sequential(OrderedDict(a=nn.BatchNorm2d(2), b=nn.Sequential(nn.BatchNorm2d(2, affine=False)))).double()
    nn.init.normal_(model.a.weight)
    with torch.no_grad():
        got = task_norms(model)
        x = torch.randn(4, 2, 3, 3).double()
        close(got(x), model(x))
    assert [type(m).__name__ for m in got.modules()] == ["Sequential", "TaskNorm", "Sequential", "TaskNorm"]
    assert isinstance(model.a, nn.BatchNorm2d)
    assert isinstance(task_norms(nn.BatchNorm1d(3)), TaskNorm)


def test_the_norm_is_described():
    assert describe_statistics(conv4(size=16), "support") == "support"
    assert describe_statistics(nn.Linear(2, 2), "query") == "none over the batch"
    assert describe_statistics(net(nn.BatchNorm2d(4)), "query") == "running"
    assert describe_statistics(net(FUSED["BatchNorm2d"]()), "image") == "image"
    both = nn.Sequential(nn.BatchNorm2d(4), TaskNorm(4))
    assert describe_statistics(both, "query") == "query and running"
