"""Modules of every kind: hooks, own tensors, extra state, and layers that torch cannot batch or derive twice."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import odd
import pytest
import torch
from cases import CASES, DEVICE, close
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop.algorithms import anil, fomaml, maml
from innerloop.inner import InnerLoop, adapt, adapted, predict
from innerloop.outer import meta_gradient
from innerloop.predictors import NIL, bind, features
from innerloop.tasks import Episodes
from innerloop.trees import leaves

# Modules that are more than their parts


def doubled(model: nn.Module) -> nn.Module:
    model.register_forward_hook(lambda *seen: 2 * seen[-1])
    return model


def shifted(model: nn.Module) -> nn.Module:
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    return model


class Scaled(nn.Sequential):
    """A Sequential with a parameter of its own."""

    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)
        self.scale = nn.Parameter(torch.ones(3))
        self.register_forward_pre_hook(lambda module, inputs: (inputs[0] * module.scale,))


class Centred(nn.Module):
    """Subtracts a buffer."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, x):
        return x - self.mean


def twice_centred() -> nn.Module:
    mean = torch.tensor(0.3).double()
    layers = {"n1": Centred(mean), "body": nn.Linear(3, 3), "n2": Centred(mean), "head": nn.Linear(3, 4)}
    return nn.Sequential(OrderedDict(layers))


def chain(kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    return kind(OrderedDict(body=nn.Linear(3, 3), tanh=nn.Tanh(), head=nn.Linear(3, 4)))


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("rule", [maml(2, 0.3), maml(0), anil(2, 0.3), anil(0)], ids=["maml", "maml0", "anil", "anil0"])
@pytest.mark.parametrize(
    "build",
    [lambda: doubled(chain()), lambda: shifted(chain()), lambda: chain(Scaled), twice_centred],
    ids=["hook", "pre-hook", "own parameter", "shared buffer"],
)
def test_a_sequential_that_is_more_than_its_children_stays_whole(build, rule, chunk_size):
    torch.manual_seed(0)
    model, episodes = build().double().to(DEVICE), CASES["skip"].episodes()
    got = predict(model, episodes, rule, chunk_size=chunk_size)[0]
    for task, outputs in zip(zip(*episodes, strict=True), got, strict=True):
        learnt = deepcopy(model)
        learnt.load_state_dict(adapt(model, task[0], task[1], rule))
        close(outputs, learnt(task[2]))
    want = nn.functional.normalize(model_features(model, episodes.query_x[0]), dim=1)
    close(nn.functional.normalize(features(model)(episodes.query_x[0]), dim=1), want)


def model_features(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the head gets."""
    seen = []
    handle = model.get_submodule("head").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(x)
    handle.remove()
    return seen[0]


def test_extra_state_is_passed_on():
    class Remembers(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

        def set_extra_state(self, state):
            assert state == {"seen": 3}

    model = nn.Sequential(OrderedDict(body=Remembers(3, 3), head=nn.Linear(3, 4))).double().to(DEVICE)
    episodes = CASES["skip"].episodes()
    model.load_state_dict(adapt(model, episodes.support_x[0], episodes.support_y[0], maml(1)))


# Layers that torch cannot batch, or derive twice: these sentences of torch are translated


class Recurrent(nn.Module):
    """The last state of a GRU, or the middle of an attention."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = (
            nn.GRU(3, 8, batch_first=True)
            if kind == "gru"
            else nn.TransformerEncoderLayer(3, 1, 8, 0.0, batch_first=True)
        )
        self.head = nn.Linear(8 if kind == "gru" else 3, 4)

    def forward(self, x):
        out = self.body(x.unsqueeze(1).expand(-1, 2, -1).contiguous())
        return self.head((out[0] if self.kind == "gru" else out)[:, -1])


@pytest.mark.parametrize("predictor", [maml(2, 0.3), NIL()], ids=["maml", "nil"])
def test_a_recurrent_layer_runs_task_by_task(predictor):
    model, episodes = Recurrent("gru").double(), Episodes(*(part.cpu() for part in CASES["skip"].episodes()))
    bound = bind(model, predictor)
    want = predictor(model, episodes, chunk_size=1)
    for _ in range(2):
        close(bound(episodes, chunk_size=2), want)


def test_attention_without_a_second_derivative_says_what_to_do():
    model, episodes = Recurrent("attention").double(), Episodes(*(part.cpu() for part in CASES["skip"].episodes()))
    with pytest.raises(RuntimeError, match=r"a layer has no second derivative \(.*\)\. Use first_order=True, or run"):
        meta_gradient(model, episodes, maml(1), chunk_size=1)
    meta_gradient(model, episodes, fomaml(1), chunk_size=1)
    with sdpa_kernel(SDPBackend.MATH):
        meta_gradient(model, episodes, maml(1), chunk_size=1)


def test_what_is_wrong_without_batching_is_said_as_it_is():
    episodes = CASES["skip"].episodes()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        predict(nn.Linear(5, 4).double().to(DEVICE), episodes, maml(1))


@pytest.fixture
def restless():
    """Threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


THREADED = {
    "maml": lambda inner: lambda model, part: predict(model, part, inner, chunk_size=1),
    "vmap": lambda inner: lambda model, part: predict(model, part, inner),
    "adapt": lambda inner: lambda model, part: adapt(model, part.support_x[0], part.support_y[0], inner),
    "adapted": lambda inner: (
        lambda model, part: adapted(model, part.support_x[0], part.support_y[0], inner).state_dict()
    ),
}


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("kind", ["plain", "chain", "checkpointed", "keeps what it saw", "tied"])
def test_threads_do_not_see_each_others_parameters(kind):
    """Each swaps its own into the same module."""
    model, given = odd.build(kind), [odd.episodes(seed=seed) for seed in range(4)]
    inners = [maml(2, 0.5), anil(2, 0.5), InnerLoop(steps=2, lr=0.1, head_start="prototypes")]
    inners = inners if isinstance(getattr(model, "head", None), nn.Linear) and kind != "tied" else inners[:2]
    jobs = [made(inner) for inner in inners for made in THREADED.values()]
    jobs += [lambda model, part: NIL(3)(model, part, chunk_size=1)] if kind != "tied" else []
    with torch.no_grad():
        want = [job(deepcopy(model), given[i % 4]) for i, job in enumerate(jobs)]

    def work(seed):
        order = random.Random(seed).choices(range(len(jobs)), k=30)
        with torch.no_grad():
            return [(i, jobs[i](model, given[i % 4])) for i in order]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            for i, got in found:
                for one, right in zip(leaves(got), leaves(want[i]), strict=True):
                    close(one, right, 1e-12)
