"""The outer loop: one step against the oracle, and scores that depend on the episodes alone."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from cases import CASES, DEVICE, RULES, close, expected
from torch import nn

from innerloop.algorithms import anil, maml
from innerloop.data.bank import Bank
from innerloop.evaluation import evaluate
from innerloop.inner import InnerLoop
from innerloop.models import conv4, mini_imagenet_net, omniglot_net
from innerloop.outer import meta_gradient, meta_train
from innerloop.predictors import NIL
from innerloop.tasks import Episodes

CASE = CASES["two blocks"]


def adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=0.01)


@pytest.mark.parametrize("rule_name", ["maml", "fomaml", "anil"])
def test_one_adam_step_is_the_oracles(rule_name):
    outputs, loss, grads = expected("two blocks", rule_name)
    model, episodes = CASE.build(), CASE.episodes()
    want = {name: parameter.detach().cpu().clone().requires_grad_() for name, parameter in model.named_parameters()}
    for name, parameter in want.items():
        parameter.grad = grads[name]
    torch.optim.Adam(want.values(), lr=0.01).step()

    steps = list(meta_train(model, [episodes], RULES[rule_name].make(CASE), adam(model)))
    for name, parameter in model.named_parameters():
        close(parameter, want[name], 1e-8)  # Adam divides by the gradient's size
    assert [step.number for step in steps] == [1]
    close(steps[0].loss, loss)
    right = outputs[-1].argmax(-1) == episodes.query_y.cpu()
    assert steps[0].accuracy.item() == pytest.approx(right.float().mean().item())
    assert not steps[0].loss.requires_grad


def test_the_clip_is_elementwise():
    _, _, grads = expected("two blocks", "maml")
    clip = 0.01
    sizes = torch.cat([grad.abs().flatten() for grad in grads.values()])
    assert (sizes < clip).any()
    assert (sizes > clip).any()
    model = CASE.build()
    before = deepcopy(dict(model.named_parameters()))
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    next(meta_train(model, [CASE.episodes()], RULES["maml"].make(CASE), sgd, clip=clip))
    for name, parameter in model.named_parameters():
        close(parameter, before[name].cpu() - grads[name].clamp(-clip, clip))


@pytest.mark.parametrize("statistics", ["query", "support"])
def test_chunk_size_does_not_change_training(statistics):
    trained, losses = [], []
    rule = maml(2, 0.3, statistics=statistics)
    for chunk_size in (None, 1, 2, 4):
        model = CASE.build()
        batches = [CASE.episodes(tasks=5, seed=seed) for seed in range(3)]
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        steps = list(meta_train(model, batches, rule, sgd, chunk_size=chunk_size))
        assert [step.number for step in steps] == [1, 2, 3]
        trained.append(nn.utils.parameters_to_vector(model.parameters()))
        losses.append(torch.stack([step.loss for step in steps]))
    for parameters, loss in zip(trained[1:], losses[1:], strict=True):
        close(parameters, trained[0], 1e-12)
        close(loss, losses[0], 1e-12)


def test_training_learns_and_the_caller_owns_the_loop():
    model, batch = CASE.build(), CASE.episodes(shot=5)
    batch = batch._replace(query_x=batch.support_x, query_y=batch.support_y)
    drawn = []

    def forever():
        while True:
            drawn.append(1)
            yield batch

    steps = meta_train(model, forever(), anil(1, 0.1), adam(model))
    losses = [next(steps).loss.item() for _ in range(15)]
    assert losses[-1] < 0.8 * losses[0]
    assert len(drawn) == 15, "a batch is drawn only when its step is due"


def test_meta_gradients_add_up():
    model, episodes = CASE.build(), CASE.episodes()
    meta_gradient(model, episodes, anil(1))
    once = [parameter.grad.clone() for parameter in model.parameters()]
    meta_gradient(model, episodes, anil(1))
    for parameter, grad in zip(model.parameters(), once, strict=True):
        close(parameter.grad, 2 * grad)


def test_regression_has_losses_and_no_accuracies():
    case = CASES["mlp regression"]
    model, episodes = case.build(), case.episodes()
    outputs, loss, _ = expected("mlp regression", "maml")
    step = next(meta_train(model, [episodes], replace(maml(2, 0.3), loss=F.mse_loss), adam(model)))
    close(step.loss, loss)
    assert step.accuracy is None
    score = evaluate(case.build(), [episodes], replace(maml(2, 0.3), loss=F.mse_loss))
    assert score.accuracy is None
    close(score.values, (outputs - episodes.query_y.cpu()).square().mean((2, 3)))
    assert str(score).startswith(f"loss {score.mean:.4f}")
    assert score.statistics == "none over the batch"


@pytest.mark.parametrize("rule", [anil(3, 0.3), NIL(4)], ids=["anil", "nil"])
@pytest.mark.parametrize("statistics", ["query", "support", "image"])
def test_a_score_does_not_depend_on_the_batches(rule, statistics):
    whole = CASE.episodes(tasks=12)
    scores = []
    for size, chunk_size in ((12, None), (12, 5), (5, 2), (1, None)):
        batches = (Episodes(*parts) for parts in zip(*(part.split(size) for part in whole), strict=True))
        scores.append(evaluate(CASE.build(), batches, replace(rule, statistics=statistics), chunk_size=chunk_size))
    for score in scores:
        assert score.values.shape == (4 if isinstance(rule, InnerLoop) else 1, 12)
        assert torch.equal(score.accuracy, scores[0].accuracy)
        close(score.loss, scores[0].loss, 1e-12)
        assert str(score) == str(scores[0])
        assert score.statistics == statistics


def test_evaluate_measures_every_step():
    outputs, *_ = expected("two blocks", "maml")
    model, episodes = CASE.build(), CASE.episodes()
    score = evaluate(model, [episodes], maml(2, 0.3))
    labels = episodes.query_y.cpu()
    close(score.accuracy, (outputs.argmax(-1) == labels).float().mean(-1))
    losses = [[F.cross_entropy(task, y) for task, y in zip(step, labels, strict=True)] for step in outputs]
    close(score.loss, torch.tensor(losses, dtype=torch.float64))
    longer = evaluate(model, [episodes], replace(maml(2, 0.3), steps=6))
    assert longer.values.shape == (7, 3)
    close(longer.loss[:3], score.loss)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_the_mean_and_its_interval():
    """Four episodes of 5 queries: 5, 3, 4 and 4 right of 5 after the last step, 1 right before it."""
    outputs = torch.zeros(2, 4, 5, 2)
    outputs[0, :, 1:, 1] = 1
    for task, wrong in enumerate((0, 2, 1, 1)):
        outputs[1, task, :wrong, 1] = 1
    y = torch.zeros(4, 5, dtype=torch.long)
    support = torch.tensor([0, 1, 0, 1, 0]).expand(4, 5)

    @dataclass
    class Stub:
        loss = staticmethod(F.cross_entropy)
        statistics = "query"

        def __call__(self, model, episodes, *, chunk_size, every_step):  # noqa: ARG002
            return outputs

    score = evaluate(nn.Linear(1, 1), [Episodes(y, support, y, y)], Stub())
    accuracies = [1.0, 0.6, 0.8, 0.8]
    deviation = (sum((a - 0.8) ** 2 for a in accuracies) / 3) ** 0.5
    assert score.mean == pytest.approx(0.8)
    assert score.interval == pytest.approx(1.96 * deviation / 2, rel=1e-5)
    assert score.per_step[0] == pytest.approx((0.2, 0.0), abs=1e-6)
    assert str(score) == "0.8000 ± 0.1600 (4 episodes, statistics: none over the batch)"
    assert repr(score) == f"<Score {score}>"
    assert "<td>1</td><td>0.8000</td>" in score._repr_html_()
    assert score.plot().axes[0].get_ylabel() == "accuracy"


def test_evaluate_leaves_the_modes_as_they_were():
    model, episodes = CASE.build(), CASE.episodes()
    for training in (True, False):
        model.train(training)
        evaluate(model, [episodes], anil(1))
        assert model.training == training
    model.train()
    with pytest.raises(ValueError, match="matches no parameter"):
        evaluate(model, [episodes], anil(1, head="fc"))
    assert model.training
    model.block1.eval()
    evaluate(model, [episodes], anil(1))
    assert not model.block1.training, "a block that its user froze"
    with pytest.raises(ValueError, match="no episodes to evaluate"):
        evaluate(model, [], anil(1))


def test_the_advice_to_freeze_running_statistics_holds_in_training():
    """`check_norms` says: call model.eval(). Then training must go on with the statistics it has."""
    layers = OrderedDict(conv=nn.Conv2d(2, 4, 3), norm=nn.BatchNorm2d(4), flat=nn.Flatten(), head=nn.Linear(144, 4))
    model = nn.Sequential(layers).double().to(DEVICE).eval()
    next(meta_train(model, [CASE.episodes()], anil(1), adam(model)))
    assert not model.norm.running_mean.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("rule", [maml(2, 0.1), anil(2, 0.1), NIL(3)], ids=["maml", "anil", "nil"])
@pytest.mark.parametrize(
    "network", [omniglot_net, mini_imagenet_net, conv4], ids=["omniglot", "mini-imagenet", "scaled"]
)
def test_a_training_step_can_be_captured_as_a_cuda_graph(network, rule):
    """Sampling, meta-gradient, clip and Adam in one graph, against the same steps run eagerly."""
    images = torch.randint(0, 256, (60, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bank = Bank.stack(images, [10] * 6, list("abcdef"), white=255, turns=True).to("cuda")
    stream = bank.episodes(3, 1, 2, tasks=4, count=10)
    eager = network(3, width=4, channels=1, size=16, generator=torch.Generator().manual_seed(0)).double().cuda()
    model = deepcopy(eager)

    def double(batch: Episodes) -> Episodes:
        return batch._replace(support_x=batch.support_x.double(), query_x=batch.query_x.double())

    optimizer = torch.optim.Adam(eager.parameters(), lr=1e-2)
    want = [float(step.loss) for step in meta_train(eager, map(double, stream), rule, optimizer, clip=0.1)]

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, capturable=True)
    index = torch.zeros((), dtype=torch.int64, device="cuda")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = meta_gradient(model, double(stream.at(index)), rule)
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()
        index.add_(1)
        return loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        got = [float(step()) for _ in range(3)]
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for _ in range(7):
        graph.replay()
        got.append(float(loss))
    assert got == pytest.approx(want, rel=1e-6)
    for parameter, other in zip(model.parameters(), eager.parameters(), strict=True):
        close(parameter, other, 1e-6)
