"""What a user may pass: trees, arrays, outputs of every shape, and what is said where it cannot be right."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import odd
import pytest
import textbook
import torch
import torch.nn.functional as F
from cases import close
from torch import nn

import innerloop
from innerloop.algorithms import anil, maml
from innerloop.evaluation import evaluate
from innerloop.inner import adapt, predict
from innerloop.outer import meta_gradient
from innerloop.predictors import NIL, bind
from innerloop.tasks import Episodes

CHUNKS = (1, 2, None)


@dataclass
class Answer:
    """As a Hugging Face model's output."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Words(nn.Module):
    """Means of embedded words; `kind` is how it takes inputs and gives outputs."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.body, self.head = kind, nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, ids, mask=None):
        if isinstance(ids, dict):
            ids, mask = ids["words"], ids["weights"]
        mask = torch.ones(ids.shape, dtype=torch.float64) if mask is None else mask
        out = self.head((torch.tanh(self.body(ids)) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        kinds = {"dict": {"logits": out, "none": None}, "tuple": (out, None), "answer": Answer(logits=out)}
        return kinds.get(self.kind, out)


def words(form: str = "") -> Episodes:
    generator = torch.Generator().manual_seed(2)

    def part(n: int):
        ids = torch.randint(20, (3, n, 5), generator=generator)
        mask = torch.rand(3, n, 5, generator=generator, dtype=torch.float64)
        y = torch.randint(3, (3, n), generator=generator)
        by_name = {"words": ids, "weights": mask}
        return {"dict": by_name, "keywords": {"ids": ids, "mask": mask}, "tuple": (ids, mask)}.get(form, ids), y

    return Episodes(*part(6), *part(5))


@pytest.mark.parametrize("kind", ["dict", "tuple", "answer"])
@pytest.mark.parametrize("rule", [maml(2, 0.3), anil(2, 0.3)], ids=["maml", "anil"])
def test_logits_are_taken_out_of_what_a_model_returns(kind, rule):
    for chunk_size in CHUNKS:
        one, other = Words().double(), Words(kind).double()
        losses = [meta_gradient(model, words(), rule, chunk_size=chunk_size) for model in (one, other)]
        close(losses[1][0], losses[0][0], 1e-12)
        close(losses[1][1], losses[0][1], 0)
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            close(b.grad, a.grad, 1e-12)


def test_a_loss_of_ones_own_gets_all_that_a_model_returns():
    for kind, take in (("dict", lambda o: o["logits"]), ("tuple", lambda o: o[0]), ("answer", lambda o: o["logits"])):
        rule = maml(2, 0.3, loss=lambda o, y, take=take: F.cross_entropy(take(o), y))
        for chunk_size in CHUNKS:
            got = meta_gradient(Words(kind).double(), words(), rule, chunk_size=chunk_size)
            want = meta_gradient(Words().double(), words(), maml(2, 0.3), chunk_size=chunk_size)
            close(got[0], want[0], 1e-12)
            close(got[1], want[1], 0)
        assert evaluate(Words(kind).double(), [words()], rule).accuracy is not None


@pytest.mark.parametrize("form", ["dict", "keywords", "tuple"])
@pytest.mark.parametrize("predictor", [maml(2, 0.3), anil(2, 0.3), NIL(3)], ids=["maml", "anil", "nil"])
@pytest.mark.parametrize("statistics", ["query", "support", "image"])
def test_inputs_may_be_trees(form, predictor, statistics):
    predictor = type(predictor)(**{**vars(predictor), "statistics": statistics})
    model = Words().double()
    want = torch.cat(
        [predictor(model, Episodes(*(cut(part, i) for part in words(form))), chunk_size=1) for i in range(3)], 1
    )
    for chunk_size in CHUNKS:
        close(predictor(model, words(form), chunk_size=chunk_size), want, 1e-12)


def cut(part, i):
    if isinstance(part, dict):
        return {key: x[i : i + 1] for key, x in part.items()}
    return tuple(x[i : i + 1] for x in part) if isinstance(part, tuple) else part[i : i + 1]


# The objective and the accuracy


@pytest.mark.parametrize(
    "loss",
    [
        partial(F.cross_entropy, weight=torch.tensor([1.0, 5.0, 0.2]).double()),
        partial(F.cross_entropy, ignore_index=2),
        partial(F.cross_entropy, reduction="sum"),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        lambda o, y: F.cross_entropy(o, y) ** 2,
    ],
    ids=["weights", "ignored", "sum", "module", "square"],
)
def test_the_objective_is_the_mean_over_tasks_for_any_loss(loss):
    model, given = odd.build("chain"), odd.episodes(4, 9, 9)
    _, value, grads = textbook.meta(model, given, loss, 2, 0.2)
    for chunk_size in (1, 2, 3, None):
        model.zero_grad()
        close(meta_gradient(model, given, maml(2, 0.2, loss=loss), chunk_size=chunk_size)[0], value, 1e-11)
        for name, p in model.named_parameters():
            close(p.grad, grads[name], 1e-11)
    close(evaluate(model, [given], maml(2, 0.2, loss=loss)).loss[-1].mean(), value, 1e-11)


def test_ignored_labels_are_no_wrong_answers():
    model, given = odd.build("chain"), odd.episodes(3, 9, 9)
    y = given.query_y.clone()
    y[:, :4] = -100
    outputs = predict(model, given, maml(1, 0.2))[0]
    want = (outputs.argmax(-1) == y)[:, 4:].double().mean(1)
    for episodes in (given._replace(query_y=y), given._replace(query_y=y.clamp_min(-1))):
        loss = F.cross_entropy if int(episodes.query_y.min()) == -100 else partial(F.cross_entropy, ignore_index=-1)
        score = evaluate(model, [episodes], maml(1, 0.2, loss=loss))
        close(score.accuracy[-1].double(), want, 1e-6)
        close(meta_gradient(model, episodes, maml(1, 0.2, loss=loss))[1].double(), want.mean(), 1e-6)


def pixels(way, size):
    torch.manual_seed(0)
    layers = {"body": nn.Conv2d(1, 8, 3, padding=1), "act": nn.Tanh(), "head": nn.Conv2d(8, way, 1)}
    x, y = torch.randn(3, 5, 1, size, size).double(), torch.randint(way, (3, 5, size, size))
    return nn.Sequential(OrderedDict(layers)).double(), Episodes(x, y, x, y)


@pytest.mark.parametrize("way", [4, 6, 8])
def test_labels_of_pixels_are_counted_on_the_axis_of_classes(way):
    model, given = pixels(way, 6)
    outputs, value, _ = textbook.meta(model, given, F.cross_entropy, 2, 0.3)
    want = (outputs.argmax(2) == given.query_y).double().mean()
    loss, right = meta_gradient(model, given, maml(2, 0.3))
    close(loss, value, 1e-11)
    close(right.double(), want, 1e-6)
    assert evaluate(model, [given], maml(2, 0.3)).mean == pytest.approx(want.item(), abs=1e-6)


def of_tokens(outputs, labels):
    return F.cross_entropy(outputs.flatten(0, -2), labels.flatten())


@pytest.mark.parametrize(("way", "known"), [(4, True), (7, False)])
def test_labels_of_tokens_and_where_shapes_do_not_tell(way, known):
    """Outputs (q, 7, w): with 7 classes either axis could be theirs."""
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(body=nn.Embedding(20, 8), act=nn.Tanh(), head=nn.Linear(8, way))).double()
    x, y = torch.randint(20, (3, 6, 7)), torch.randint(way, (3, 6, 7))
    score = evaluate(model, [Episodes(x, y, x, y)], maml(2, 0.3, loss=of_tokens))
    assert (score.accuracy is not None) == known
    if known:
        outputs = predict(model, Episodes(x, y, x, y), maml(2, 0.3, loss=of_tokens))[0]
        assert score.mean == pytest.approx((outputs.argmax(-1) == y).double().mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("width", "labels", "loss"),
    [
        (4, (3, 6, 4), lambda o, y: F.binary_cross_entropy_with_logits(o, y.double())),
        (1, (3, 6), lambda o, y: F.binary_cross_entropy_with_logits(o.squeeze(-1), y.double())),
        (1, (3, 6, 1), lambda o, y: F.mse_loss(o, y.double())),
    ],
    ids=["several labels", "one logit", "counts"],
)
def test_no_accuracy_and_no_crash_where_there_is_no_answer(width, labels, loss):
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(body=nn.Linear(6, 8), act=nn.Tanh(), head=nn.Linear(8, width))).double()
    x, y = torch.randn(3, 6, 6).double(), torch.randint(2, labels)
    _, value, _ = textbook.meta(model, Episodes(x, y, x, y), loss, 2, 0.3)
    got, accuracy = meta_gradient(model, Episodes(x, y, x, y), maml(2, 0.3, loss=loss))
    close(got, value, 1e-11)
    assert accuracy is None
    assert evaluate(model, [Episodes(x, y, x, y)], maml(2, 0.3, loss=loss)).accuracy is None


def test_fewer_ways_than_outputs_are_compared_with_each_other():
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(body=nn.Linear(6, 8), act=nn.Tanh(), head=nn.Linear(8, 20))).double()
    y = torch.tensor([3, 7, 11]).repeat(2).expand(4, -1)
    x = torch.randn(4, 6, 6).double()
    given = Episodes(x, y, x + 0.1, y)
    outputs = predict(model, given, maml(1, 0.1))[0][..., [3, 7, 11]]
    want = (torch.tensor([3, 7, 11])[outputs.argmax(-1)] == y).double().mean().item()
    assert evaluate(model, [given], maml(1, 0.1)).mean == pytest.approx(want, abs=1e-6)
    assert want > (predict(model, given, maml(1, 0.1))[0].argmax(-1) == y).double().mean().item()


# What is said


def test_arrays_and_plain_tuples_are_episodes_too():
    model, given = odd.build("chain"), odd.episodes()
    want = predict(model, given, maml(1))
    close(predict(model, tuple(given), maml(1)), want)
    close(predict(model, [part.numpy() for part in given], maml(1)), want)
    state = adapt(model, given.support_x[0].numpy(), given.support_y[0].numpy(), maml(1))
    close(state["head.bias"], adapt(model, given.support_x[0], given.support_y[0], maml(1))["head.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[:3], r"expected Episodes\(support_x.*got a tuple of 3 parts"),
        (lambda e: e.support_x, "expected Episodes.*got a Tensor"),
        (lambda e: Episodes(*(part[0] for part in e)), r"support_y has the shape \(6,\).*unsqueeze\(0\)"),
        (lambda e: e._replace(query_x=e.query_x[:2]), "support_x 3, support_y 3, query_x 2, query_y 3"),
        (lambda e: e._replace(support_y=e.support_y[:, :4]), "the support set has 6 inputs and 4 targets a task"),
        (lambda e: e._replace(support_x=(e.support_x * 9).byte()), "support_x is uint8.*/ 255"),
        (lambda e: e._replace(support_y="ab"), "support_y has no tensor, got a str"),
    ],
)
def test_episodes_that_cannot_be_meant(change, message):
    for predictor in (maml(1), NIL(3)):
        with pytest.raises(ValueError, match=message):
            predictor(odd.build("chain"), change(odd.episodes()))


def test_what_is_passed_in_the_wrong_place_is_said():
    model, given = odd.build("chain"), odd.episodes()
    for call in (lambda: evaluate(model, [given], innerloop.anil), lambda: meta_gradient(model, given, innerloop.anil)):
        with pytest.raises(ValueError, match=r"got the function anil: call it, innerloop\.anil\(\)"):
            call()
    with pytest.raises(ValueError, match=r"expected a torch\.nn\.Module, got a InnerLoop: the model comes first"):
        evaluate(maml(), [given], model)  # pyright: ignore[reportArgumentType]
    renamed = nn.Sequential(OrderedDict(body=nn.Linear(6, 8), fc=nn.Linear(8, 3))).double()
    with pytest.raises(ValueError, match=r"'head\.\*' matches no parameter.*head='fc'"):
        predict(renamed, given, anil())
    predict(renamed, given, anil(head="fc"))


def test_a_regression_without_a_loss_is_said_and_probabilities_are_none():
    model, given = odd.build("chain"), odd.episodes()
    values = given._replace(support_y=torch.randn(3, 6, 3).double(), query_y=torch.randn(3, 5, 3).double())
    with pytest.raises(ValueError, match=r"the targets are values.*mse_loss"):
        meta_gradient(model, values, maml(1))
    meta_gradient(model, values, maml(1, loss=F.mse_loss))
    soft = given._replace(support_y=values.support_y.softmax(-1), query_y=values.query_y.softmax(-1))
    assert math.isfinite(meta_gradient(model, soft, maml(1))[0])


def test_lazy_modules_are_made_at_first_sight():
    lazy = nn.Sequential(OrderedDict(body=nn.LazyLinear(8), act=nn.Tanh(), head=nn.LazyLinear(3)))
    given = Episodes(*(part.float() if part.is_floating_point() else part for part in odd.episodes()))
    torch.manual_seed(3)
    value, _ = meta_gradient(lazy, given, maml(2, 0.3))
    again, _ = meta_gradient(lazy, given, maml(2, 0.3), chunk_size=1)
    close(value, again, 1e-6)
    score = evaluate(nn.Sequential(OrderedDict(body=nn.LazyLinear(8), head=nn.LazyLinear(3))), [given], anil(1))
    assert score.loss.isfinite().all()


def test_what_is_bound_is_remembered_as_long_as_the_model_stays():
    model, given = odd.build("checkpointed"), odd.episodes()
    rule = maml(1)
    assert bind(model, rule) is bind(model, rule)
    predict(model, given, rule)
    model.middle = odd.Net.body
    assert not bind(model, rule)._parts
    before = bind(model, rule)
    model.b.weight.requires_grad_(False)
    assert "b.weight" not in bind(model, rule).adapting
    assert "b.weight" in before.adapting
