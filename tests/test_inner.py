"""The inner loop against the oracle and finite differences."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from cases import CASES, DEVICE, RULES, TASKS, Plain, close, expected
from torch import nn

from innerloop.algorithms import anil, boil, freeze, maml
from innerloop.inner import InnerLoop, adapt, predict
from innerloop.outer import meta_gradient
from innerloop.params import chosen, cut
from innerloop.tasks import Episodes, pick_chunk_size

every_case = pytest.mark.parametrize("case_name", CASES)
every_rule = pytest.mark.parametrize("rule_name", RULES)


@every_case
@every_rule
@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_outputs_and_meta_gradients_are_the_oracles(case_name, rule_name, chunk_size):
    case = CASES[case_name]
    model, inner, episodes = case.build(), RULES[rule_name].make(case), case.episodes()
    outputs, loss, grads = expected(case_name, rule_name)

    value, _ = meta_gradient(model, episodes, inner, chunk_size=chunk_size)
    close(value, loss)
    for name, parameter in model.named_parameters():
        close(parameter.grad, grads[name])
    with torch.no_grad():
        got = predict(model, episodes, inner, chunk_size=chunk_size, every_step=True)
    close(got, outputs)


@every_rule
@pytest.mark.parametrize("chunk_size", [1, 2, TASKS, 99])
def test_predict_is_differentiable_and_the_last_of_every_step(rule_name, chunk_size):
    case = CASES["two blocks"]
    model, inner, episodes = case.build(), RULES[rule_name].make(case), case.episodes()
    outputs, _, grads = expected("two blocks", rule_name)
    got = inner(model, episodes, chunk_size=chunk_size)
    close(got[0], outputs[-1])
    F.cross_entropy(got.flatten(0, 2), episodes.query_y.flatten()).backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, grads[name])


def test_the_number_of_steps_is_free_at_test():
    case = CASES["two blocks"]
    outputs, *_ = expected("two blocks", "anil")  # of 3 steps
    for steps in (0, 1, 2, 3):
        inner = replace(anil(lr=0.3), steps=steps)
        got = predict(case.build(), case.episodes(), inner, every_step=True)
        assert len(got) == steps + 1
        close(got, outputs[: steps + 1])


@pytest.mark.parametrize("rule", [maml(2, 0.5), anil(3, 0.5), boil(1, 0.5)], ids=["maml", "anil", "boil"])
def test_the_meta_gradient_is_a_finite_difference(rule):
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(body=nn.Linear(2, 3), tanh=nn.Tanh(), head=nn.Linear(3, 2))).double().to(DEVICE)
    x, y = torch.randn(2, 4, 2, dtype=torch.float64), torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]])
    episodes = Episodes(*(part.to(DEVICE) for part in (x, y, x.flip(0) + 0.3, y.flip(1))))

    def loss() -> float:
        return float(F.cross_entropy(predict(model, episodes, rule)[0].flatten(0, 1), episodes.query_y.flatten()))

    meta_gradient(model, episodes, rule)
    h = 1e-5
    with torch.no_grad():
        for parameter in model.parameters():
            for i in range(parameter.numel()):
                kept = parameter.view(-1)[i].item()
                parameter.view(-1)[i] = kept + h
                above = loss()
                parameter.view(-1)[i] = kept - h
                below = loss()
                parameter.view(-1)[i] = kept
                assert parameter.grad.view(-1)[i].item() == pytest.approx((above - below) / (2 * h), abs=1e-8)


@every_case
@every_rule
def test_adapt_keeps_the_frozen_bits_and_loads(case_name, rule_name):
    case, rule = CASES[case_name], RULES[rule_name]
    model, episodes = case.build(), case.episodes()
    before = deepcopy(model.state_dict())
    state = adapt(model, episodes.support_x[0], episodes.support_y[0], rule.make(case))

    assert list(state) == list(before)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), "the model itself has changed"
        assert torch.equal(state[name], value) != rule.adapts(case, name)
        assert not state[name].requires_grad
        assert state[name].data_ptr() != model.state_dict()[name].data_ptr()
    adapted = deepcopy(model)
    adapted.load_state_dict(state)
    close(adapted(episodes.query_x[0]), expected(case_name, rule_name)[0][-1, 0])


@pytest.mark.parametrize("statistics", ["query", "support", "image"])
@every_rule
def test_running_the_front_once_changes_no_number(rule_name, statistics):
    case = CASES["mini_imagenet_net"]
    model, inner, episodes = case.build(), RULES[rule_name].make(case, statistics), case.episodes()
    outputs, grads = [], []
    for network in (model, Plain(deepcopy(model))):
        meta_gradient(network, episodes, inner)
        grads.append([parameter.grad for parameter in network.parameters()])
        outputs.append(predict(network, episodes, inner))
    close(*outputs)
    for one, other in zip(*grads, strict=True):
        close(one, other)


def test_the_front_ends_where_adapting_begins():
    model = CASES["mini_imagenet_net"].build()

    def names(rule):
        return [list(part._modules) for part in cut(model, chosen(model, rule.adapt))]

    blocks = ["block1", "block2", "block3", "block4"]
    assert names(anil()) == [[*blocks, "features"], ["head"]]
    assert names(maml()) == [[], [*blocks, "features", "head"]]
    assert names(freeze(maml(), "block1", "block3")) == [["block1"], [*blocks[1:], "features", "head"]]
    plain = Plain(model)
    assert cut(plain, chosen(plain, ("head.*",)))[1] is plain


@pytest.mark.parametrize("rule", [maml(2, 0.3), anil(2, 0.3)], ids=["maml", "anil"])
def test_a_module_that_stands_twice_in_a_sequential_runs_twice(rule):
    torch.manual_seed(0)
    relu = nn.ReLU()
    layers = OrderedDict(a=nn.Linear(3, 5), relu1=relu, b=nn.Linear(5, 5), relu2=relu, head=nn.Linear(5, 4))
    model, episodes = nn.Sequential(layers).double().to(DEVICE), CASES["skip"].episodes()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = model.a, model.b, model.head

        def forward(self, x):
            return self.head(self.b(self.a(x).relu()).relu())

    close(predict(model, episodes, rule), predict(Whole(), episodes, rule))


@pytest.mark.parametrize("rule", [maml(2, 0.3), anil(2, 0.3)], ids=["maml", "anil"])
@pytest.mark.parametrize("twice", ["module", "parameter"])
def test_shared_parameters_adapt_as_one(rule, twice):
    torch.manual_seed(0)
    layer, head = nn.Linear(3, 3), nn.Linear(3, 4)
    other = layer if twice == "module" else nn.Linear(3, 3)
    other.weight, other.bias = layer.weight, layer.bias
    model = nn.Sequential(OrderedDict(a=layer, tanh1=nn.Tanh(), b=other, tanh2=nn.Tanh(), head=head)).double()
    model.to(DEVICE)
    episodes = CASES["skip"].episodes()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer, head

        def forward(self, x):
            return self.head(self.layer(self.layer(x).tanh()).tanh())

    want = predict(Whole(), episodes, rule)
    close(predict(model, episodes, rule), want)
    assert model.a.weight is model.b.weight, "functional_call can leave its own tensors behind (torch 2.13)"
    assert isinstance(model.a.weight, nn.Parameter)
    state = adapt(model, episodes.support_x[0], episodes.support_y[0], rule)
    adapted = deepcopy(model)
    adapted.load_state_dict(state)
    close(adapted(episodes.query_x[0]), want[0, 0])


def test_patterns_choose_from_left_to_right():
    model = CASES["two blocks"].build()
    everything = [name for name, _ in model.named_parameters()]
    assert chosen(model, ("*",)) == everything
    assert chosen(model, ("head.*",)) == ["head.weight", "head.bias"]
    assert chosen(model, ("*", "!block?.*")) == ["head.weight", "head.bias"]
    assert chosen(model, ("*", "!*bias", "head.bias")) == [n for n in everything if "bias" not in n or "head" in n]
    for patterns in (("heads.*",), ("*", "!block9.*")):
        with pytest.raises(ValueError, match=r"matches no parameter.*block1\.conv\.weight"):
            chosen(model, patterns)


def test_nothing_adapts_when_all_is_frozen():
    case = CASES["two blocks"]
    model, episodes = case.build(), case.episodes()
    frozen = freeze(maml(2), "block1", "block2", "head")
    for chunk_size in (1, None):
        got = predict(model, episodes, frozen, chunk_size=chunk_size, every_step=True)
        close(got, torch.stack([model(x) for x in episodes.query_x]).expand_as(got))


def test_buffers_and_dropout_work():
    layers = OrderedDict(body=nn.Linear(3, 40), norm=nn.BatchNorm1d(40), drop=nn.Dropout(0.5), head=nn.Linear(40, 4))
    model = nn.Sequential(layers).double().to(DEVICE)
    model.norm.running_mean.fill_(0.3)
    model.norm.eval()
    episodes = CASES["skip"].episodes()
    same = Episodes(*(part[:1].expand(3, *part.shape[1:]) for part in episodes))
    outputs = predict(model, same, anil(2))[0]
    assert not torch.equal(outputs[0], outputs[1]), "every task draws its own dropout"
    model.eval()
    state = adapt(model, episodes.support_x[0], episodes.support_y[0], anil(2))
    adapted = deepcopy(model)
    adapted.load_state_dict(state)
    close(adapted(episodes.query_x[0]), predict(model, episodes, anil(2))[0, 0])


@pytest.mark.parametrize("chunk_size", [1, None])
def test_labels_that_do_not_fit_the_head_are_named(chunk_size):
    case = CASES["two blocks"]
    episodes = Episodes(*(part.cpu() for part in case.episodes()))
    beyond = episodes._replace(support_y=episodes.support_y + case.way)
    with pytest.raises(ValueError, match="label"):
        predict(case.build().cpu(), beyond, maml(1), chunk_size=chunk_size)


def test_adapt_and_the_outer_loop_check_labels_too():
    case = CASES["two blocks"]
    model, episodes = case.build().cpu(), Episodes(*(part.cpu() for part in case.episodes()))
    with pytest.raises(ValueError, match="label"):
        adapt(model, episodes.support_x[0], episodes.support_y[0] + case.way, maml(1))
    with pytest.raises(ValueError, match="label"):
        meta_gradient(model, episodes._replace(query_y=episodes.query_y + case.way), maml(1))


def test_settings_that_cannot_be_meant():
    with pytest.raises(ValueError, match=r"adapt takes a tuple of patterns, got the text 'head\.\*': write"):
        InnerLoop(adapt="head.*")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="steps must not be negative, got -1"):
        InnerLoop(steps=-1)


def test_chunk_size_is_checked_and_chosen():
    small, large = torch.zeros(3, 2, 4), torch.zeros(3, 1, 2**18)

    def episodes(x):
        return Episodes(x, x[..., 0].long(), x, x[..., 0].long())

    assert pick_chunk_size(episodes(small), None) == 3
    assert pick_chunk_size(episodes(large), None) == 1
    assert pick_chunk_size(episodes(large), 2) == 2
    assert pick_chunk_size(episodes(small), 50) == 3
    with pytest.raises(ValueError, match="chunk_size must be a whole number from 1, or None, got 0"):
        predict(nn.Linear(4, 2), episodes(small), InnerLoop(), chunk_size=0)
