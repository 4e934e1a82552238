"""Every promise of the docs, over one list of predictors and one list of odd modules, against the textbook."""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import replace

import odd
import pytest
import textbook
import torch
import torch.nn.functional as F
from cases import close
from torch import nn

from innerloop.algorithms import anil, boil, fomaml, freeze, maml
from innerloop.evaluation import evaluate
from innerloop.heads import Prototypes, Ridge
from innerloop.inner import InnerLoop, adapt, predict
from innerloop.outer import meta_gradient, meta_train
from innerloop.params import chosen
from innerloop.predictors import NIL, bind

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap, of what it has no rule for

RULES = {
    "maml": maml(3, 0.5),
    "fomaml": fomaml(3, 0.5),
    "anil": anil(3, 0.5),
    "boil": boil(2, 0.5),
    "weights": InnerLoop(("*", "!*bias"), 2, 0.5),
}
PREDICTORS = {
    **RULES,
    "nil": NIL(way=3),
    "prototypes": Prototypes(way=3, distance="cosine", scale=4.0),
    "ridge": Ridge(way=3, strength=0.5, intercept=True),
}
CHUNKS = (1, 2, None)
every_module = pytest.mark.parametrize("kind", odd.MODULES)
every_rule = pytest.mark.parametrize("rule_name", RULES)
every_predictor = pytest.mark.parametrize("name", PREDICTORS)


def adapts(model, rule):
    names = chosen(model, rule.adapt)
    return lambda name: name in names


def gradients(model):
    return {
        n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters() if p.requires_grad
    }


@every_module
@every_rule
def test_the_numbers_are_the_textbooks_whatever_the_chunk(kind, rule_name):
    rule = RULES[rule_name]
    model, given = odd.build(kind), odd.episodes()
    plain = deepcopy(given)
    copies = Copies(odd.build(kind, plainly=True))  # some of these modules write into their inputs
    inside = adapts(model, rule)
    outputs, loss, grads = textbook.meta(
        copies, given, F.cross_entropy, rule.steps, rule.lr, lambda name: inside(name.removeprefix("inside.")),
        first_order=rule.first_order,
    )  # fmt: skip
    for chunk_size in CHUNKS:
        model.zero_grad()
        value, _ = meta_gradient(model, given, rule, chunk_size=chunk_size)
        close(value, loss, 1e-11)
        for name, grad in gradients(model).items():
            close(grad, grads[f"inside.{name}"], 1e-11)
        with torch.no_grad():
            close(predict(model, given, rule, chunk_size=chunk_size, every_step=True)[-1], outputs, 1e-11)
    assert all(torch.equal(a, b) for a, b in zip(given, plain, strict=True)), "the user's episodes are left alone"


class Copies(nn.Module):
    """Gives a module a copy of its input each time."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x.clone())


@every_module
@every_predictor
def test_a_tasks_outputs_do_not_depend_on_the_others(kind, name):
    model, given = odd.build(kind).eval(), odd.episodes()
    with torch.no_grad():
        together = PREDICTORS[name](model, given)
        for task in range(3):
            alone = type(given)(*(part[task : task + 1] for part in given))
            close(PREDICTORS[name](model, alone)[:, 0], together[:, task], 1e-11)


@every_module
@every_predictor
def test_nothing_is_left_in_the_module(kind, name):
    model, given = odd.build(kind), odd.episodes()
    before, attributes = deepcopy(model.state_dict()), {m: dict(vars(m)) for m in model.modules()}
    meta_gradient(model, given, PREDICTORS[name])
    evaluate(model, [given], PREDICTORS[name])
    if isinstance(PREDICTORS[name], InnerLoop):
        adapt(model, given.support_x[0], given.support_y[0], PREDICTORS[name])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for module, old in attributes.items():
        assert vars(module).keys() == old.keys()
        assert all(vars(module)[key] is value for key, value in old.items())
    assert not getattr(model, "seen", [])
    deepcopy(model).zero_grad()
    torch.save(model.state_dict(), io.BytesIO())


@every_module
@every_rule
def test_adapt_is_predict_for_one_task(kind, rule_name):
    rule = RULES[rule_name]
    model, given = odd.build(kind), odd.episodes(tasks=1)
    learnt = deepcopy(model)
    learnt.load_state_dict(adapt(model, given.support_x[0], given.support_y[0], rule))
    with torch.no_grad():
        close(learnt(given.query_x[0].clone()), predict(model, given, rule)[0, 0], 1e-11)


@every_module
@every_rule
def test_a_frozen_parameter_is_bit_equal(kind, rule_name):
    rule = RULES[rule_name]
    model, given = odd.build(kind), odd.episodes()
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    names = {*chosen(model, rule.adapt)}
    state = adapt(model, given.support_x[0], given.support_y[0], rule)
    first_name = {id(p): n for n, p in model.named_parameters()}
    for name, p in model.named_parameters(remove_duplicate=False):
        assert torch.equal(state[name], p) or first_name[id(p)] in names, name
    first = deepcopy(dict(model.named_parameters()))
    adam = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)
    list(meta_train(model, [given] * 2, rule, adam))
    assert all(torch.equal(p, first[name]) for name, p in model.named_parameters() if name in still)


@every_module
def test_the_front_runs_once_and_changes_no_number(kind):
    model, given, calls = odd.build(kind), odd.episodes(tasks=1), []
    bound = bind(model, anil(10, 0.5))
    with torch.no_grad():
        want = bound(given, every_step=True)  # with the first look at the module
        first = next(module for name, module in model.named_modules() if isinstance(module, nn.Linear))
        first.register_forward_hook(lambda *_: calls.append(1))
        close(bound(given, every_step=True), want)
    ends = kind not in ("checkpointed", "twice checkpointed", "saved-tensor hooks", "tensor hook", "tied",
                        "scaled after the head", "head called twice")  # fmt: skip
    assert len(calls) == (2 if ends else 1) or not ends, calls


@every_module
def test_a_pattern_never_silently_trains_another_algorithm(kind):
    model = odd.build(kind)
    for patterns in (("heads.*",), ("*", "!bodies.*"), ("Head.*",)):
        with pytest.raises(ValueError, match="matches no parameter"):
            bind(model, InnerLoop(patterns))
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'head\.\*' matches parameters with requires_grad=False alone"):
        bind(model, anil())
    bind(model, freeze(maml(), "head"))


def test_another_order_is_exact_too():
    """The third order: a finite difference of the meta-gradient's directional derivative."""
    model, given = odd.build("plain"), odd.episodes()
    params = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(5)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params]

    def slope(shift):
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.add_(shift * d)
        value = F.cross_entropy(
            predict(model, given, maml(2, 0.5), chunk_size=1)[0].flatten(0, 1), given.query_y.flatten()
        )
        grads = torch.autograd.grad(value, params, create_graph=True, allow_unused=True)
        along = sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)
        second = torch.autograd.grad(along, params, allow_unused=True)
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.sub_(shift * d)
        return along.item(), sum(float((g * d).sum()) for g, d in zip(second, direction, strict=True) if g is not None)

    step = 1e-5
    assert slope(0.0)[1] == pytest.approx((slope(step)[0] - slope(-step)[0]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda o, y: F.cross_entropy(o, y)], ids=["closed form", "autograd"])
@pytest.mark.parametrize("first_order", [True, False])
def test_the_heads_closed_form_is_the_gradient(loss, first_order):
    model, given = odd.build("chain"), odd.episodes()
    rule = replace(anil(4, 0.5), loss=loss, first_order=first_order)
    _, value, grads = textbook.meta(
        model, given, F.cross_entropy, 4, 0.5, lambda name: name.startswith("head"), first_order=first_order
    )
    for chunk_size in CHUNKS:
        model.zero_grad()
        close(meta_gradient(model, given, rule, chunk_size=chunk_size)[0], value, 1e-12)
        for name, grad in gradients(model).items():
            close(grad, grads[name], 1e-12)


def test_the_closed_form_leaves_out_ignored_labels():
    model, given = odd.build("chain"), odd.episodes()
    given.support_y[:, 2] = -100
    _, value, _ = textbook.meta(model, given, F.cross_entropy, 4, 0.5, lambda name: name.startswith("head"))
    for chunk_size in CHUNKS:
        close(meta_gradient(model, given, anil(4, 0.5), chunk_size=chunk_size)[0], value, 1e-12)
