"""Step sizes, clipping, optimisers and the start of the head, against the textbook and torch's own optimisers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import odd
import pytest
import textbook
import torch
import torch.nn.functional as F
from cases import close
from torch import nn

from innerloop.algorithms import anil, boil, maml
from innerloop.descent import adam, descend, last, learnable_step_sizes, loop_grad, momentum
from innerloop.inner import InnerLoop, adapt, predict
from innerloop.outer import meta_gradient, meta_train
from innerloop.predictors import NIL, bind
from innerloop.tasks import Episodes

CHUNKS = (1, 2, None)
chunked = pytest.mark.parametrize("chunk_size", CHUNKS)


def rate(by_name):
    """Of name and step: the last pattern that a name starts with, the last step going on."""

    def at(name, step):
        size = [value for start, value in by_name.items() if name.startswith(start)][-1]
        return size[min(step, len(size) - 1)] if isinstance(size, tuple) else size

    return at


SIZES = {
    "one": (0.3, {"": 0.3}),
    "a step": ((0.3, 0.1), {"": (0.3, 0.1)}),
    "a tensor a step": (torch.tensor([0.3, 0.1], dtype=torch.float64), {"": (0.3, 0.1)}),
    "a pattern": ({"*": 0.1, "head.*": 0.5}, {"": 0.1, "head": 0.5}),
    "a pattern and step": ({"*": 0.1, "head.*": (0.5, 0.2)}, {"": 0.1, "head": (0.5, 0.2)}),
}


@pytest.mark.parametrize("kind", SIZES)
@chunked
def test_step_sizes_are_the_textbooks(kind, chunk_size):
    lr, plainly = SIZES[kind]
    model, given = odd.build("chain"), odd.episodes()
    _, value, grads = textbook.meta(model, given, F.cross_entropy, 3, rate(plainly))
    close(meta_gradient(model, given, maml(3, lr), chunk_size=chunk_size)[0], value, 1e-12)
    for name, p in model.named_parameters():
        close(p.grad, grads[name], 1e-11)


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("each", [False, True])
@chunked
def test_learnt_step_sizes_have_the_gradient_of_a_finite_difference(each, steps, chunk_size):
    model, given = odd.build("chain"), odd.episodes()
    sizes = learnable_step_sizes(model, lr=0.3, steps=steps, each=each)
    rule = maml(3, sizes)
    meta_gradient(model, given, rule, chunk_size=chunk_size)
    with torch.no_grad():
        for name in ("body.weight", "head.bias"):
            size, place = sizes[name], (0,) * sizes[name].ndim
            losses = []
            for step in (1e-5, -2e-5):
                size[place] += step
                losses.append(meta_loss(model, given, rule))
            size[place] += 1e-5
            assert size.grad[place].item() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-9)


def meta_loss(model, given, rule):
    with torch.no_grad():
        outputs = predict(model, given, rule)[0]
        return torch.stack([F.cross_entropy(o, y) for o, y in zip(outputs, given.query_y, strict=True)]).mean().item()


def test_step_sizes_are_trained_beside_the_model():
    model, given = odd.build("chain"), odd.episodes()
    sizes = learnable_step_sizes(model, ("head.*",), 0.3)
    assert list(sizes) == ["head.weight", "head.bias"]
    outer = torch.optim.Adam([*model.parameters(), *sizes.values()], 0.01)
    list(meta_train(model, [given] * 3, anil(2, sizes), outer))
    assert all(size.item() != 0.3 for size in sizes.values())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (momentum(0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (momentum(0.8, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True)),
        (adam((0.8, 0.95), 1e-6), lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.95), 1e-6)),
    ],
    ids=["momentum", "nesterov", "adam"],
)
def test_optimisers_are_torchs(ours, theirs):
    target = torch.tensor([1.0, -2.0, 3.0]).double()

    def objective(params):
        return (params["p"] - target).pow(4).sum()

    got = last(descend(objective, {"p": torch.zeros(3).double()}, 7, {"p": 0.1}, optimizer=ours, gradient=loop_grad))
    p = nn.Parameter(torch.zeros(3).double())
    optimizer = theirs([p])
    for _ in range(7):
        optimizer.zero_grad()
        objective({"p": p}).backward()
        optimizer.step()
    close(got["p"], p, 1e-6)


@pytest.mark.parametrize(
    "more", [{"optimizer": adam()}, {"optimizer": momentum()}, {"clip": 0.05}], ids=["adam", "momentum", "clip"]
)
@pytest.mark.parametrize("rule", [maml(3, 0.1), anil(3, 0.1)], ids=["maml", "anil"])
def test_clip_and_optimisers_are_differentiated_through(rule, more):
    model, given = odd.build("chain"), odd.episodes()
    rule, losses = replace(rule, **more), []
    grads = []
    for chunk_size in CHUNKS:
        model.zero_grad()
        meta_gradient(model, given, rule, chunk_size=chunk_size)
        grads.append([p.grad.clone() for p in model.parameters()])
    for one in grads[1:]:
        for a, b in zip(one, grads[0], strict=True):
            close(a, b, 1e-10)
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            model.body.weight[0, 0] += step
            losses.append(meta_loss(model, given, rule))
    assert grads[0][0][0, 0].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"lr": -0.1}, "lr must be a finite number from 0"),
        ({"lr": "0.1"}, "lr must be a finite number"),
        ({"lr": True}, "lr must be a finite number"),
        ({"lr": ()}, "lr must be a finite number"),
        ({"lr": {"*": (0.1, float("inf"))}}, "lr must be a finite number"),
        ({"lr": torch.tensor([0.1, torch.nan])}, "lr must be finite numbers"),
        ({"lr": {}}, "empty mapping"),
        ({"lr": {0: 0.1}}, "got the key 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"loss": "mse"}, "loss takes a function"),
        ({"clip": 0.0}, "clip must be a finite number above 0"),
        ({"clip": float("nan")}, "clip must be a finite number above 0"),
        ({"optimizer": torch.optim.Adam}, r"pure function.*innerloop\.descent\.adam\(\)"),
        ({"head_start": "ones"}, "head_start must be one of learnt, zero, shared, prototypes"),
        ({"statistics": "transductive"}, "statistics must be one of query, support, image"),
        ({"adapt": ["*"]}, "adapt takes a tuple"),
        ({"adapt": ("*", 3)}, "adapt takes a tuple"),
    ],
)
def test_nonsense_is_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        InnerLoop(**settings)


def test_nil_refuses_nonsense_too():
    for settings in (
        {"temperature": float("nan")},
        {"temperature": 0.0},
        {"way": 0},
        {"way": 2.0},
        {"statistics": "x"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            NIL(**settings)


def test_step_sizes_that_do_not_fit_the_model():
    model, given = odd.build("chain"), odd.episodes()
    for lr, message in (
        ({"body.*": 0.1}, "no step size for head.weight, head.bias"),
        ({"*": 0.1, "tail.*": 0.2}, "lr has 'tail.*', and no parameter that adapts matches"),
        ({"*": torch.ones(3, 8).double()}, r"step sizes of body.weight have the shape \(3, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(model, given, maml(1, lr))


# What the head starts from


def first_of(start, way):
    """By hand, for the textbook."""

    def first(own, support_x, support_y):
        w = own["head.weight"]
        if start == "zero":
            new = {"head.weight": torch.zeros(way, w.shape[1]).double(), "head.bias": torch.zeros(way).double()}
        elif start == "shared":
            mean = own["head.bias"].mean()
            new = {"head.weight": torch.stack([w.mean(0)] * way), "head.bias": torch.stack([mean] * way)}
        else:
            features = torch.tanh(support_x @ own["body.weight"].T + own["body.bias"])
            centres = torch.stack([features[support_y == label].mean(0) for label in range(way)])
            new = {"head.weight": 2 * centres, "head.bias": -(centres**2).sum(1)}
        return own | new

    return first


def balanced(way):
    given = odd.episodes(support=2 * way, query=2 * way)
    y = torch.arange(way).repeat(2).expand(3, -1)
    return given._replace(support_y=y, query_y=y)


@pytest.mark.parametrize("way", [2, 3, 5])
@pytest.mark.parametrize("start", ["zero", "shared", "prototypes"])
@pytest.mark.parametrize("rule", [maml(2, 0.3), anil(2, 0.3)], ids=["maml", "anil"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_head_starts_as_it_says_for_any_number_of_ways(rule, start, way, whole):
    model, given = odd.build("chain"), balanced(way)
    names = [name for name, _ in model.named_parameters() if rule.adapt == ("*",) or name.startswith("head")]
    outputs, value, grads = textbook.meta(
        model, given, F.cross_entropy, 2, 0.3, lambda name: name in names, first=first_of(start, way)
    )

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = model.body, model.head

        def forward(self, x):
            return self.head(torch.tanh(self.body(x)))

    network = Whole() if whole else model
    for chunk_size in CHUNKS:
        model.zero_grad()
        got, _ = meta_gradient(network, given, replace(rule, head_start=start), chunk_size=chunk_size)
        close(got, value, 1e-12)
        for name, p in model.named_parameters():
            close(torch.zeros_like(p) if p.grad is None else p.grad, grads[name], 1e-11)
        with torch.no_grad():
            close(predict(network, given, replace(rule, head_start=start), chunk_size=chunk_size)[0], outputs, 1e-12)


@pytest.mark.parametrize("start", ["zero", "shared", "prototypes"])
def test_the_order_of_the_classes_changes_nothing(start):
    """UNICORN-MAML's test: the assignment of classes to outputs."""
    model, given = odd.build("chain"), balanced(3)
    order = torch.tensor([2, 0, 1])
    other = given._replace(support_y=order[given.support_y], query_y=order[given.query_y])
    for rule in (maml(3, 0.5, head_start=start), anil(3, 0.5, head_start=start)):
        one, two = (predict(model, part, rule)[0] for part in (given, other))
        close(two, one[..., order.argsort()], 1e-12)
    learnt = predict(model, other, maml(3, 0.5))[0] - predict(model, given, maml(3, 0.5))[0][..., order.argsort()]
    assert learnt.abs().max() > 1e-3


def test_heads_that_cannot_start_anew():
    model = odd.build("chain")
    with pytest.raises(ValueError, match="head_start='zero' needs a head that adapts: add 'head"):
        bind(model, boil(1, 0.1, head_start="zero"))
    predict(model, balanced(3), boil(1, 0.1, head_start="prototypes"))
    with pytest.raises(ValueError, match="the model has no module 'fc' to start anew"):
        bind(model, maml(1, head_start="zero").__class__(head_start="zero", head="fc"))
    with pytest.raises(ValueError, match="needs a linear head, and act is a Tanh"):
        bind(model, InnerLoop(head_start="zero", head="act"))
    bare = nn.Sequential(OrderedDict(body=nn.Linear(6, 8), head=nn.Linear(8, 3, bias=False))).double()
    with pytest.raises(ValueError, match="needs a head with a bias"):
        bind(bare, InnerLoop(head_start="prototypes"))
    predict(bare, balanced(4), anil(1, 0.1, head_start="zero"))


def test_adapt_gives_the_new_heads_numbers():
    model, given = odd.build("chain"), balanced(3)
    state = adapt(model, given.support_x[0], given.support_y[0], maml(2, 0.3, head_start="zero"))
    learnt = odd.build("chain")
    learnt.load_state_dict(state)
    close(learnt(given.query_x[0]), predict(model, given, maml(2, 0.3, head_start="zero"))[0, 0], 1e-12)


def test_episodes_of_two_kinds_one_after_the_other():
    """A bound model looks again where the inputs are of another kind."""
    model = nn.Sequential(OrderedDict(body=nn.AdaptiveAvgPool2d(2), flat=nn.Flatten(), head=nn.Linear(4, 3))).double()
    bound = bind(model, anil(2, 0.3))
    y = torch.arange(3).repeat(2).expand(2, -1)
    for size in (4, 6):
        x = torch.randn(2, 6, 1, size, size).double()
        close(bound(Episodes(x, y, x, y)), predict(model, Episodes(x, y, x, y), anil(2, 0.3)))
