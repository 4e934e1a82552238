from __future__ import annotations

from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import NearestCentroid
from torch import nn

from innerloop import NIL, Episodes, InnerLoop, Prototypes, Ridge, evaluate, meta_gradient, meta_train
from innerloop.models import conv4

WAY, SHOT, QUERY, WIDTH = 4, 3, 5, 7
HEADS = {
    "ProtoNet": Prototypes(way=WAY),
    "cosine": Prototypes(way=WAY, distance="cosine", scale=10.0),
    "SimpleShot": Prototypes(way=WAY, centre=torch.linspace(-1, 1, WIDTH, dtype=torch.float64)),
    "ridge": Ridge(way=WAY, strength=0.3, scale=4.0, offset=0.5),
    "ridge with intercept": Ridge(way=WAY, strength=0.3, intercept=True, normalise=True),
}


def tasks(count=3, width=WIDTH, dtype=torch.float64, shot=SHOT):
    made = torch.Generator().manual_seed(1)
    centres = torch.randn(count, WAY, 1, width, generator=made, dtype=dtype)
    x = (centres + 0.7 * torch.randn(count, WAY, shot + QUERY, width, generator=made, dtype=dtype)) * 3 + 1
    y = torch.arange(WAY).repeat_interleave(shot).expand(count, -1)
    shuffled = torch.randperm(WAY * shot, generator=made)
    query_y = torch.arange(WAY).repeat_interleave(QUERY).expand(count, -1)
    return Episodes(x[:, :, :shot].flatten(1, 2)[:, shuffled], y[:, shuffled], x[:, :, shot:].flatten(1, 2), query_y)


def headless(width=WIDTH):
    return nn.Sequential(OrderedDict(head=nn.Linear(width, WAY, dtype=torch.float64)))


def body(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(layer1=nn.Linear(6, 9), act=nn.Tanh(), layer2=nn.Linear(9, WIDTH), head=nn.Linear(WIDTH, WAY))
    ).to(dtype)


def by_hand(name, support, labels, query):
    """One query item after the other, from the definition."""
    classes = [support[labels == label] for label in range(WAY)]
    if name == "ProtoNet":
        return torch.stack([torch.stack([-((q - c.mean(0)) ** 2).sum() for c in classes]) for q in query])
    unit = lambda x: x / (x**2).sum(-1, keepdim=True).sqrt()  # noqa: E731
    if name == "cosine":
        means = [unit(torch.stack([unit(x) for x in c]).mean(0)) for c in classes]
        return torch.stack([torch.stack([10 * (unit(q) @ m) for m in means]) for q in query])
    if name == "SimpleShot":
        centre = torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
        means = [unit(c - centre).mean(0) for c in classes]
        return torch.stack([torch.stack([-((unit(q - centre) - m) ** 2).sum() for m in means]) for q in query])
    targets = torch.stack([(labels == label).double() for label in range(WAY)], 1)
    if name == "ridge":  # in its primal form, an f x f solve
        gram = support.T @ support + 0.3 * torch.eye(WIDTH, dtype=torch.float64)
        return 4 * query @ torch.linalg.inv(gram) @ support.T @ targets + 0.5
    support, query = unit(support), unit(query)
    ones = torch.ones(len(support), 1, dtype=torch.float64)
    penalty = 0.3 * torch.eye(WIDTH + 1, dtype=torch.float64)
    penalty[-1, -1] = 0  # the intercept is a feature that is 1 and costs nothing
    wide = torch.cat([support, ones], 1)
    weights = torch.linalg.inv(wide.T @ wide + penalty) @ wide.T @ targets
    return torch.cat([query, torch.ones(len(query), 1, dtype=torch.float64)], 1) @ weights


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk_size", [1, 2, None])
def test_outputs_and_meta_gradients_are_those_of_the_definition(name, chunk_size):
    episodes = tasks(width=6)
    model, twin = body(), body()
    outputs = HEADS[name](model, episodes, chunk_size=chunk_size)
    assert outputs.shape == (1, 3, WAY * QUERY, WAY)
    value, _ = meta_gradient(model, episodes, HEADS[name], chunk_size=chunk_size)
    total = 0
    for i in range(3):
        support_x, support_y, query_x, query_y = (part[i] for part in episodes)
        expected = by_hand(name, twin[:3](support_x), support_y, twin[:3](query_x))
        torch.testing.assert_close(outputs[0, i], expected, rtol=1e-9, atol=1e-9)
        total = total + F.cross_entropy(expected, query_y) / 3
    total.backward()
    torch.testing.assert_close(value, total.detach(), rtol=1e-9, atol=1e-9)
    for p, q in zip(model[:3].parameters(), twin[:3].parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-9)
    assert all(p.grad is None for p in model.head.parameters())


def one_task(episodes, i=0):
    return tuple(part[i].numpy() for part in episodes)


@pytest.mark.parametrize("intercept", [False, True])
def test_ridge_is_scikit_learns(intercept):
    episodes = tasks(width=50)
    support, labels, query, _ = one_task(episodes)
    sklearn = SklearnRidge(alpha=0.7, fit_intercept=intercept).fit(support, np.eye(WAY)[labels])
    ours = Ridge(strength=0.7, intercept=intercept)(headless(50), episodes)[0, 0]
    np.testing.assert_allclose(ours.detach(), sklearn.predict(query), rtol=1e-5, atol=1e-8)
    rule = RidgeClassifier(alpha=0.7, fit_intercept=intercept).fit(support, labels)
    assert (ours.argmax(1).numpy() == rule.predict(query)).all()


def test_prototypes_are_scikit_learns_nearest_centroids():
    episodes = tasks()
    support, labels, query, _ = one_task(episodes)
    rule = NearestCentroid().fit(support, labels)
    ours = Prototypes()(headless(), episodes)[0, 0]
    squares = ((query[:, None] - rule.centroids_) ** 2).sum(2)
    np.testing.assert_allclose(ours.detach(), -squares, rtol=1e-5)
    assert (ours.argmax(1).numpy() == rule.predict(query)).all()


@pytest.mark.slow
def test_anil_from_a_zero_head_with_many_steps_is_scikit_learns_logistic_regression():
    """The penalty: both are cut short, ours by the number of steps, so the problem must have a minimum: it overlaps."""
    made = torch.Generator().manual_seed(3)
    x = F.normalize(torch.randn(1, 40, 3, generator=made, dtype=torch.float64), dim=-1)
    y = torch.randint(WAY, (1, 40), generator=made)
    model = headless(3)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    with torch.no_grad():
        ours = InnerLoop(("head.*",), steps=4000, lr=4.0)(model, Episodes(x, y, x, y))[-1, 0].softmax(1)
    rule = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(x[0].numpy(), y[0].numpy())
    np.testing.assert_allclose(ours, rule.predict_proba(x[0].numpy()), atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_task_does_not_depend_on_the_order_of_its_support(name):
    episodes = tasks()
    order = torch.randperm(WAY * SHOT, generator=torch.Generator().manual_seed(5))
    mixed = Episodes(episodes.support_x[:, order], episodes.support_y[:, order], *episodes[2:])
    torch.testing.assert_close(HEADS[name](headless(), mixed), HEADS[name](headless(), episodes))


def test_digits_survive_features_far_from_zero():
    episodes = tasks(dtype=torch.float32)
    far = Episodes(episodes.support_x + 1000, episodes.support_y, episodes.query_x + 1000, episodes.query_y)
    near, moved = (Prototypes()(headless().float(), given) for given in (episodes, far))
    torch.testing.assert_close(moved, near, rtol=1e-2, atol=0.05)


def test_a_learnt_strength_scale_and_offset_follow_the_optimizer():
    strength, scale, offset = (torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 0.1))
    rule = Ridge(way=WAY, strength=strength, scale=scale, offset=offset)
    model, episodes = body(torch.float32), tasks(width=6, dtype=torch.float32)
    optimizer = torch.optim.SGD([*model.parameters(), strength, scale, offset], 0.05)
    before = strength.item(), scale.item()
    losses = [float(step.loss) for step in meta_train(model, [episodes] * 8, rule, optimizer)]
    assert losses[-1] < losses[0]
    assert strength.item() != before[0]
    assert scale.item() != before[1]
    step = 1e-3
    values = [
        float(meta_gradient(model, episodes, Ridge(way=WAY, strength=strength.item() + d, scale=scale.item()))[0])
        for d in (step, -step)
    ]
    optimizer.zero_grad()
    meta_gradient(model, episodes, Ridge(way=WAY, strength=strength, scale=scale))
    assert strength.grad.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02, abs=2e-5)


@pytest.mark.parametrize("rule", [*HEADS.values(), NIL(way=WAY, temperature=0.1)], ids=[*HEADS, "NIL"])
def test_a_network_of_images_learns_with_them(rule):
    torch.manual_seed(0)
    made = torch.Generator().manual_seed(2)
    patterns = torch.rand(2, WAY, 1, 3, 16, 16, generator=made)
    images = (patterns + 0.5 * torch.rand(2, WAY, SHOT + 2, 3, 16, 16, generator=made)) / 1.5
    y = torch.arange(WAY)
    labels = [y.repeat_interleave(n).expand(2, -1) for n in (SHOT, 2)]
    episodes = Episodes(images[:, :, :SHOT].flatten(1, 2), labels[0], images[:, :, SHOT:].flatten(1, 2), labels[1])
    model = conv4(WAY, size=16, width=WIDTH, generator=made)
    rule = Prototypes(way=WAY, centre=torch.zeros(WIDTH)) if getattr(rule, "centre", None) is not None else rule
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = [float(step.loss) for step in meta_train(model, [episodes] * 5, rule, optimizer)]
    assert losses[-1] < losses[0]
    score = evaluate(model, [episodes], rule)
    assert score.accuracy.shape == (1, 2)


def test_a_class_without_support_is_never_the_answer():
    episodes = tasks()
    outputs = Prototypes(way=WAY + 1)(headless(), episodes)
    assert outputs.shape[-1] == WAY + 1
    assert outputs[..., WAY].isneginf().all()
    assert outputs[..., :WAY].isfinite().all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (partial(Prototypes, distance="cos"), "euclidean, cosine"),
        (partial(Prototypes, scale=0.0), "scale must be a positive number"),
        (partial(Ridge, strength=-1.0), "strength must be a positive number"),
        (partial(Ridge, strength=float("nan")), "strength must be a positive number"),
        (partial(Ridge, scale=torch.ones(2)), "one number"),
    ],
)
def test_nonsense_is_refused_at_construction(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_label_beyond_the_ways_is_refused():
    with pytest.raises(ValueError, match="does not fit 2 ways"):
        Ridge(way=2)(headless(), tasks())
