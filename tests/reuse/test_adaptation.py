"""What the inner loop does to a network: against definitions written out, and for every identity that must hold."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.algorithms import anil, boil, maml
from innerloop.evaluation import Score, evaluate
from innerloop.inner import InnerLoop
from innerloop.models import ConvBlock, mlp
from innerloop.norm import TaskNorm
from innerloop.params import layers_of
from innerloop.predictors import NIL
from innerloop.reuse import probe as probing
from innerloop.reuse.adaptation import Change, change
from innerloop.reuse.freezing import freezing
from innerloop.reuse.networks import resemblance
from innerloop.reuse.probe import Probe, probe
from innerloop.tasks import Episodes

MAML = maml(3, 0.4)
BODY = ["block1", "block2"]


def network(seed: int = 0) -> nn.Sequential:
    """Two blocks and a head for images of (2, 8, 8) and 3 ways, in float64."""
    torch.manual_seed(seed)
    blocks = {"block1": ConvBlock(2, 4, TaskNorm, "max"), "block2": ConvBlock(4, 5, TaskNorm, "max")}
    return nn.Sequential(OrderedDict(**blocks, features=nn.Flatten(), head=nn.Linear(20, 3))).double()


class Own(nn.Module):
    """As a user may write it: no Sequential, names of its own, a skip connection, dropout and a norm that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.inside = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, padding=1)})
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.stem(x))
        return self.fc((x + self.inside["conv"](x)).flatten(1))


def own() -> Own:
    """Its running statistics are those of an earlier training."""
    torch.manual_seed(3)
    model = Own().double()
    model(torch.randn(30, 2, 8, 8, dtype=torch.float64))
    return model.eval()


OWN = ["stem", "inside.conv", "fc"]


def tasks(count: int = 4, seed: int = 0, query: int = 8) -> Episodes:
    """3-way 2-shot tasks that can be learnt: a class is a pattern under noise."""
    generator = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    patterns = normal(count, 3, 1, 2, 8, 8)

    def part(each: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = (patterns + 0.7 * normal(count, 3, each, 2, 8, 8)).flatten(1, 2)
        return x, torch.arange(3).repeat_interleave(each).expand(count, -1)

    return Episodes(*part(2), *part(query))


def batches(episodes: Episodes, size: int) -> list[Episodes]:
    return [Episodes(*parts) for parts in zip(*(part.split(size) for part in episodes), strict=True)]


def same_scores(one: Score, other: Score) -> bool:
    assert one.accuracy is not None
    assert other.accuracy is not None
    return (
        torch.equal(one.accuracy, other.accuracy)
        and torch.equal(one.loss, other.loss)
        and one.statistics == other.statistics
    )


def near(found: dict[str, float], want: dict[str, float], tolerance: float) -> None:
    assert list(found) == list(want)
    assert list(found.values()) == pytest.approx(list(want.values()), abs=tolerance)


# Definitions, by hand


def by_hand(model: nn.Sequential, support_x: torch.Tensor, support_y: torch.Tensor) -> nn.Sequential:
    """The network after gradient descent on a task."""
    learnt = deepcopy(model)
    for _ in range(MAML.steps):
        loss = F.cross_entropy(learnt(support_x), support_y)
        for parameter, grad in zip(
            learnt.parameters(), torch.autograd.grad(loss, list(learnt.parameters())), strict=True
        ):
            parameter.data -= MAML.lr * grad
    return learnt


def outputs(model: nn.Sequential, x: torch.Tensor) -> dict[str, np.ndarray]:
    """What comes out of every layer: (data points, channels)."""
    seen = {}
    for name, part in model.named_children():
        x = part(x)
        seen[name] = np.moveaxis(x.detach().numpy(), 1, -1).reshape(-1, x.shape[1])
    return seen


def cca(x: np.ndarray, y: np.ndarray) -> float:
    """The mean cosine of the principal angles of the two spans."""
    x, y = x - x.mean(0), y - y.mean(0)
    bases = [np.linalg.qr(side)[0] for side in (x, y)]
    return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean())


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """The cosine of the centred Gram matrices."""
    grams = [(side - side.mean(0)) @ (side - side.mean(0)).T for side in (x, y)]
    return float((grams[0] * grams[1]).sum() / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1]))


def test_change_is_what_its_definition_says():
    model, episodes = network(), tasks()
    found = change(model, [episodes], MAML)
    want = {kind: {name: [] for name in [*BODY, "head"]} for kind in ("cca", "cka", "distance")}
    for support_x, support_y, query_x, _ in zip(*episodes, strict=True):
        learnt = by_hand(model, support_x, support_y)
        before, after = outputs(model, query_x), outputs(learnt, query_x)
        for name in want["cca"]:
            want["cca"][name].append(cca(before[name], after[name]))
            want["cka"][name].append(cka(before[name], after[name]))
            weights = [np.concatenate([p.detach().numpy().ravel() for p in net.get_submodule(name).parameters()])
                       for net in (model, learnt)]  # fmt: skip
            want["distance"][name].append(float(np.linalg.norm(weights[0] - weights[1])))
    for kind, by_layer in want.items():
        near(getattr(found, kind), {name: np.mean(values) for name, values in by_layer.items()}, 1e-7)
    assert found.points == {"block1": 24 * 16, "block2": 24 * 4, "head": 24}
    assert found.tasks == 4
    for kind in ("cca", "cka"):
        assert list(found.permuted[kind]) == [*BODY, "head"]
        assert all(0 < value < getattr(found, kind)[name] for name, value in found.permuted[kind].items())
    assert 0.3 < found.cca["head"] < 0.999, "the test is about something"


def test_resemblance_is_what_its_definition_says():
    models, episodes = (network(0), network(1)), tasks(2)
    found = resemblance(*models, [episodes], MAML)
    want = {when: {name: [] for name in [*BODY, "head"]} for when in ("pre-pre", "pre-post", "post-pre", "post-post")}
    for support_x, support_y, query_x, _ in zip(*episodes, strict=True):
        nets = [{"pre": model, "post": by_hand(model, support_x, support_y)} for model in models]
        seen = [{time: outputs(net, query_x) for time, net in by_time.items()} for by_time in nets]
        for when, by_layer in want.items():
            first, second = when.split("-")
            for name, values in by_layer.items():
                values.append((cca(seen[0][first][name], seen[1][second][name]),
                               cka(seen[0][first][name], seen[1][second][name])))  # fmt: skip
    for when, by_layer in want.items():
        means = {name: np.mean(values, 0) for name, values in by_layer.items()}
        near(found.cca[when], {name: mean[0] for name, mean in means.items()}, 1e-7)
        near(found.cka[when], {name: mean[1] for name, mean in means.items()}, 1e-7)
    assert list(found.cca) == list(found.cka) == list(want)
    assert found.tasks == 2


# Identities


def test_freezing_goes_from_the_plain_test_to_anil():
    model, episodes = network(), batches(tasks(6), 4)
    scores = freezing(model, episodes, MAML)
    assert len(scores) == 3
    assert same_scores(scores[0], evaluate(model, episodes, MAML))
    assert same_scores(scores[-1], evaluate(model, episodes, anil(MAML.steps, MAML.lr)))
    assert not same_scores(scores[0], scores[-1])
    assert all(same_scores(score, scores[-1]) for score in freezing(model, episodes, anil(MAML.steps, MAML.lr)))


@pytest.mark.parametrize("statistics", ["support", "image"])
def test_freezing_passes_the_statistics_on(statistics):
    model, episodes = network(), [tasks(2)]
    scores = freezing(model, episodes, replace(MAML, statistics=statistics), chunk_size=1)
    assert [score.statistics for score in scores] == [statistics] * 3
    assert same_scores(scores[0], evaluate(model, episodes, replace(MAML, statistics=statistics), chunk_size=1))


def test_what_does_not_adapt_stays():
    found = change(
        network().float(), [Episodes(*(x.float() if x.is_floating_point() else x for x in tasks()))], anil(3)
    )
    for layer in BODY:
        assert found.cca[layer] == pytest.approx(1, abs=1e-6)
        assert found.cka[layer] == pytest.approx(1, abs=1e-6)
        assert found.distance[layer] == 0
    assert found.distance["head"] > 0
    found = change(network(), [tasks()], boil(3, 0.4))
    assert found.distance["head"] == 0
    assert found.cca["head"] < 0.999, "its input changed"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_change_no_mean(size):
    episodes = tasks(5)
    found, want = (change(network(), batches(episodes, n), MAML) for n in (size, 5))
    assert found == want
    models = network(0), network(1)
    assert resemblance(*models, batches(episodes, size), MAML) == resemblance(*models, [episodes], MAML)


def test_a_network_resembles_itself():
    model = network()
    found = resemblance(model, model, [tasks()], MAML)
    for values in (found.cca, found.cka):
        near(values["pre-pre"], dict.fromkeys([*BODY, "head"], 1.0), 1e-6)
        near(values["post-post"], dict.fromkeys([*BODY, "head"], 1.0), 1e-6)
    moved = change(model, [tasks()], MAML)
    near(found.cca["pre-post"], moved.cca, 1e-9)
    near(found.cka["post-pre"], moved.cka, 1e-9)


def test_resemblance_is_symmetric():
    one, other, episodes = network(0), network(1), [tasks()]
    there, back = resemblance(one, other, episodes, MAML), resemblance(other, one, episodes, MAML)
    for a, b in (("pre", "pre"), ("pre", "post"), ("post", "pre"), ("post", "post")):
        near(there.cca[f"{a}-{b}"], back.cca[f"{b}-{a}"], 1e-9)
        near(there.cka[f"{a}-{b}"], back.cka[f"{b}-{a}"], 1e-9)
        assert there.cca[f"{a}-{b}"]["block2"] < 0.95


def test_the_order_of_channels_is_nothing():
    model = network()
    shuffled, order = deepcopy(model), torch.tensor([2, 0, 3, 1])
    first, second = shuffled.block1, shuffled.block2
    for parameter in (first.conv.weight, first.norm.weight, first.norm.bias):
        parameter.data = parameter.data[order]
    second.conv.weight.data = second.conv.weight.data[:, order]
    found = resemblance(model, shuffled, [tasks()], MAML)
    for values in (found.cca, found.cka):
        for when in ("pre-pre", "post-post"):
            near(values[when], dict.fromkeys([*BODY, "head"], 1.0), 1e-5)


def test_without_an_inner_loop_there_is_only_before():
    models, episodes = (network(0), network(1)), [tasks()]
    found = resemblance(*models, episodes)
    assert found.cca.keys() == found.cka.keys() == {"pre-pre"}
    assert found.cca["pre-pre"] == resemblance(*models, episodes, MAML).cca["pre-pre"]
    assert list(resemblance(*models, episodes, layers=BODY).cca["pre-pre"]) == BODY


# A probe


def test_a_probe_of_a_sequential():
    model, episodes = network(), batches(tasks(6), 2)
    before = deepcopy(model.state_dict())
    found = probe(model, episodes, MAML)
    assert found.layers == layers_of(model) == [*BODY, "head"]
    assert all(same_scores(*pair) for pair in zip(found.freezing, freezing(model, episodes, MAML), strict=True))
    assert same_scores(found.nil, evaluate(model, episodes, NIL()))
    assert found.change == change(model, episodes, MAML)
    assert found.way == 3
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_probe_of_a_users_module():
    model, episodes = own(), [tasks(6)]
    found = probe(model, episodes, maml(3, 0.05), layers=OWN)
    assert found.layers == OWN
    assert len(found.freezing) == 3
    assert same_scores(found.freezing[-1], evaluate(model, episodes, anil(3, 0.05, head="fc")))
    assert same_scores(found.nil, evaluate(model, episodes, NIL(head="fc")))
    assert found.change.distance.keys() == set(OWN)
    assert "(stem; unrelated" in found.verdict or "(inside.conv; unrelated" in found.verdict
    assert found.freezing[0].mean > 0.6


def test_dropout_rests_and_statistics_stay():
    """Else a layer would differ from itself, and running statistics would be refused."""
    model, episodes = own().train(), [tasks(2)]
    model.stem.eval()
    before = deepcopy(model.state_dict())
    same = dict.fromkeys(OWN[:2], 1.0)
    near(change(model, episodes, anil(1, head="fc"), layers=OWN[:2]).cca, same, 1e-6)
    near(resemblance(model, model, episodes, anil(1, head="fc"), layers=OWN[:2]).cka["post-post"], same, 1e-6)
    assert (model.training, model.dropout.training, model.stem.training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_layers_are_compared_on_tasks_of_their_own(monkeypatch):
    model, episodes, others = network(), [tasks(3, query=1)], tasks(2, seed=5)
    found = probe(model, episodes, anil(1), compared=[others])
    assert found.change == change(model, [others], anil(1))
    assert found.freezing[0].values.shape[1] == 3
    assert probing._COMPARED == 50
    monkeypatch.setattr(probing, "_COMPARED", 3)
    some = Episodes(*(part[:3] for part in tasks(5)))
    assert probe(model, batches(tasks(5), 2), anil(1)).change == change(model, [some], anil(1))


# The verdict


def made_up(whole: list[float], frozen: list[float], way: int = 5, *, body_adapts: bool = True) -> Probe:
    def score(values: list[float]) -> Score:
        accuracy = torch.tensor([[0.0] * len(values), values])
        return Score(accuracy, torch.zeros_like(accuracy), "query")

    moved = Change({"a": 0.97, "b": 0.912, "head": 0.456}, {}, {}, {"cca": {"b": 0.183, "head": 0.219}}, {}, 4)
    scores = [score(whole), score([0.9] * len(whole)), score(frozen)]
    return Probe(["a", "b", "head"], scores, score([0.432]), moved, way, body_adapts)


@pytest.mark.parametrize(
    ("whole", "frozen", "way", "kind"),
    [
        (0.6, 0.6, 5, "Feature reuse"),
        (0.6, 0.7, 5, "Feature reuse"),
        (0.6, 0.57, 5, "Feature reuse"),
        (0.6, 0.55, 5, "Some of both"),
        (0.6, 0.41, 5, "Some of both"),
        (0.6, 0.39, 5, "Rapid learning"),
        (0.6, 0.2, 5, "Rapid learning"),
        (0.6, 0.1, 5, "Rapid learning"),
        (0.205, 0.2, 5, "Nothing learnt"),
        (0.1, 0.3, 5, "Nothing learnt"),
        (0.6, 0.57, 2, "Some of both"),  # 0.7 of what is above chance
    ],
)
def test_the_verdict(whole, frozen, way, kind):
    noise = torch.tensor([-0.05, 0.05] * 10)
    found = made_up((whole + noise).tolist(), (frozen + noise).tolist(), way)
    assert found.verdict.startswith(f"{kind}: with all layers but the head frozen")


def test_a_network_that_always_gives_one_answer_has_learnt_nothing():
    always = [0.2] * 20  # 0.2000000179 in float32
    assert made_up(always, always).verdict.startswith("Nothing learnt: ")


def test_a_verdict_that_the_episodes_do_not_settle_names_both():
    random = np.random.default_rng(0)
    whole, lost = random.uniform(0.5, 0.7, 20), random.uniform(-0.05, 0.13, 20)  # 4 points and 2.4
    found = made_up(list(whole), list(whole - lost)).verdict
    assert found.startswith("Some of both or feature reuse (more episodes would tell): with all layers")
    more = [np.tile(values, 30) for values in (whole, whole - lost - 0.02)]
    assert made_up(list(more[0]), list(more[1])).verdict.startswith("Some of both: ")


def test_the_verdict_says_its_numbers():
    random = np.random.default_rng(0)
    whole, lost = random.uniform(0.5, 0.9, 30), random.uniform(-0.05, 0.08, 30)
    found = made_up(list(whole), list(whole - lost))
    half = 1.96 * lost.std(ddof=1) / np.sqrt(30)
    assert found.cost == pytest.approx((lost.mean(), half), rel=1e-4)
    assert half < found.freezing[0].interval / 2, "paired: episodes that are hard for one are hard for the other"
    assert found.verdict == (
        "Feature reuse: with all layers but the head frozen in the inner loop, accuracy goes from "
        f"{100 * whole.mean():.1f}% to {100 * (whole - lost).mean():.1f}% "
        f"({-100 * lost.mean():+.1f} ± {100 * half:.1f} points, chance 20.0%); the layers of the body keep a CCA of at "
        "least 0.91 (b; unrelated images: 0.18) where the head has 0.46 (0.22); without any inner loop "
        "(NIL) accuracy is 43.2%."
    )
    assert "(+0.0 ± 0.0 points" in made_up(list(whole), list(whole)).verdict


def test_an_inner_loop_of_the_head_alone_says_nothing_of_the_body():
    verdict = made_up([0.6, 0.7], [0.6, 0.7], body_adapts=False).verdict
    assert verdict.startswith("Nothing to tell: this inner loop changes the head alone")
    assert "65.0% with it and 43.2% without any (NIL), chance 20.0%" in verdict
    model, episodes = network(), [tasks(3)]
    assert not probe(model, episodes, anil(2, 0.1)).body_adapts
    assert probe(model, episodes, boil(2, 0.1)).body_adapts
    assert probe(model, episodes, maml(2, 0.1)).body_adapts


# Mistakes


def test_layers_without_an_order_are_asked_for():
    for act in (probe, freezing, change):
        with pytest.raises(ValueError, match=r"a Own is no Sequential, .* pass layers=\[...\] in order, the head last"):
            act(own(), [tasks()], MAML)
    with pytest.raises(ValueError, match="a Own is no Sequential"):
        resemblance(own(), own(), [tasks()])


def test_layers_that_do_not_fit_are_named():
    for layers, said in (
        (["stem", "fcc"], "adapt pattern '!fcc.*' matches no parameter. This model has: stem.0.weight"),
        (["stem", "dropout", "fc"], "'!dropout.*' matches no parameter"),
        (["fc"], "a probe compares a body with a head, and there is only fc"),
        ([], "there is only no layer"),
        (["stem", "fc"], "inside.conv.weight, inside.conv.bias would adapt even with stem, fc frozen"),
    ):
        with pytest.raises(ValueError, match=said.replace(".", r"\.").replace("*", r"\*")):
            probe(own(), [tasks()], MAML, layers=layers)
    tamed = replace(MAML, adapt=("*", "!inside.*"))
    assert probe(own(), [tasks()], tamed, layers=["stem", "fc"]).layers == ["stem", "fc"]


@pytest.mark.parametrize("act", [probe, freezing, change, partial(resemblance, network())])
def test_a_pattern_that_matches_nothing_is_named(act):
    with pytest.raises(ValueError, match=r"adapt pattern 'fc\.\*' matches no parameter. This model has: block1"):
        act(network(), [tasks()], InnerLoop(("fc.*",)))


@pytest.mark.parametrize("act", [probe, freezing, change, partial(resemblance, network())])
def test_no_episodes_are_no_answer(act):
    with pytest.raises(ValueError, match=r"there are no episodes to \w+; check the stream's `count`"):
        act(network(), [], MAML)


@pytest.mark.parametrize("act", [probe, freezing])
def test_a_generator_is_refused(act):
    """It is empty after the first of many passes."""
    drawn = iter([tasks()])
    with pytest.raises(ValueError, match=r"once for every layer, a generator only once: pass list\(episodes\)"):
        act(network(), drawn, MAML)
    assert len(list(drawn)) == 1, "nothing is lost"


def test_a_generator_is_enough_for_one_pass():
    episodes = batches(tasks(), 2)
    assert change(network(), iter(episodes), MAML) == change(network(), episodes, MAML)
    models = network(0), network(1)
    assert resemblance(*models, iter(episodes)) == resemblance(*models, episodes)
    found = probe(network(), episodes, MAML, compared=iter(episodes))
    assert found.change == change(network(), episodes, MAML)


def test_too_few_query_images_are_named():
    said = "head cannot be compared on 3 query images a task: mean CCA of 3 and 3 channels got 3 data points"
    for act in (probe, change, partial(resemblance, network())):
        with pytest.raises(ValueError, match=said), pytest.warns(UserWarning, match="noise would score"):
            act(network(), [tasks(query=1)], MAML)


def test_one_episode_is_too_few():
    with pytest.raises(ValueError, match="give a probe two or more"):
        probe(network(), [tasks(1)], MAML)


def test_values_are_no_labels():
    torch.manual_seed(0)
    x, y = torch.randn(4, 9, 2), torch.randn(4, 9, 1)
    episodes, model = [Episodes(x, y, x, y)], mlp(2, 1, (6, 5))
    with pytest.raises(ValueError, match=r"needs labels, got targets of torch.float32: .*`freezing` and `change`"):
        probe(model, episodes, MAML)
    assert freezing(model, episodes, replace(maml(2, 0.1), loss=F.mse_loss))[0].accuracy is None
    found = change(model, episodes, replace(maml(2, 0.1), loss=F.mse_loss), layers=["head"])
    assert found.distance["head"] > 0
