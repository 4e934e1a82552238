"""The peers: a textbook loop in plain PyTorch, `higher` and `torchopt`, each as its documentation shows it to a user.

They share one network, a plain nn.Sequential of PyTorch's own layers in PyTorch's own memory layout. In training
each calls backward after each task, so that memory does not grow with the meta batch. ANIL is by hand: the body runs
once for a support set and once for a query set, the inner loop sees the head alone. At test they build no graph that
outlives a step, and those that can build none at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.cases import Case, Data

Train = Callable[[], float]  # one meta-training step; its loss
Adapt = Callable[[], Tensor]  # learn the first task, predict its query set: (q, w)
Params = Mapping[str, Tensor]
Network = Callable[[Case, torch.dtype], nn.Sequential]


def network(case: Case, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Conv-4 as these libraries' examples write it: 4 x (conv, batch norm, ReLU[, max pool]), then a linear head."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise([case.channels, *[case.filters] * 4]):
        layers += [
            nn.Conv2d(before, after, 3, case.stride, padding=1),
            nn.BatchNorm2d(after, affine=True, track_running_stats=False),
            nn.ReLU(inplace=True),
            *([nn.MaxPool2d(2)] if case.stride == 1 else []),
        ]
    layers += [nn.AdaptiveAvgPool2d(1)] if case.stride == 2 else []
    body = nn.Sequential(*layers, nn.Flatten())
    features = body(torch.zeros(2, case.channels, case.size, case.size)).shape[1]
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(features, case.way))).to(case.device, dtype)


def halves(net: nn.Sequential, algorithm: str) -> tuple[nn.Module, nn.Module]:
    """What runs once a task, and what the inner loop adapts."""
    return (nn.Identity(), net) if algorithm == "maml" else (net[:-1], net[-1])


def outer_step(case: Case, net: nn.Module, data: Data, task_loss: Callable[..., Tensor]) -> Train:
    """Sum the tasks' meta-gradients, backward after each task, then let Adam step."""
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> float:
        adam.zero_grad()
        total = 0.0
        for task in zip(*data, strict=True):
            loss = task_loss(*task) / case.tasks
            loss.backward()
            total += loss.item()
        adam.step()
        return total

    return step


def first_task(data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Support x, support y and query x of one task."""
    return data[0][0], data[1][0], data[2][0]


# A textbook loop: torch.autograd.grad and functional_call, on any Sequential whose last child is the head.


def textbook_descend(
    back: nn.Module, params: Params, x: Tensor, y: Tensor, steps: int, lr: float, *, outer: bool
) -> Params:
    """Gradient steps on the support set; `outer` keeps the graph that the meta-gradient needs."""
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(back, dict(params), (x,)), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=outer)
        params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
        if not outer:
            params = {name: p.detach().requires_grad_() for name, p in params.items()}
    return params


def textbook_train(case: Case, algorithm: str, dtype: torch.dtype = torch.float32, *, make: Network = network) -> Train:
    net = make(case, dtype)
    front, back = halves(net, algorithm)
    start = dict(back.named_parameters())

    def task_loss(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        support, query = front(support_x), front(query_x)
        learnt = textbook_descend(back, start, support, support_y, case.steps, case.lr, outer=True)
        return F.cross_entropy(functional_call(back, dict(learnt), (query,)), query_y)

    return outer_step(case, net, case.data(dtype), task_loss)


def textbook_adapt(case: Case, algorithm: str, dtype: torch.dtype = torch.float32, *, make: Network = network) -> Adapt:
    front, back = halves(make(case, dtype), algorithm)
    start = {name: p.detach().requires_grad_() for name, p in back.named_parameters()}
    support_x, support_y, query_x = first_task(case.data(dtype))

    def adapt() -> Tensor:
        with torch.no_grad():
            support, query = front(support_x), front(query_x)
        learnt = textbook_descend(back, start, support, support_y, case.adapt_steps, case.lr, outer=False)
        with torch.no_grad():
            return functional_call(back, dict(learnt), (query,))

    return adapt


# higher: a patched copy of the module and a differentiable twin of torch.optim.SGD.


def higher_train(case: Case, algorithm: str, dtype: torch.dtype = torch.float32) -> Train:
    import higher

    net = network(case, dtype)
    front, back = halves(net, algorithm)
    sgd = torch.optim.SGD(back.parameters(), lr=case.lr)

    def task_loss(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        support, query = front(support_x), front(query_x)
        with higher.innerloop_ctx(back, sgd, copy_initial_weights=False) as (learner, inner):
            for _ in range(case.steps):
                inner.step(F.cross_entropy(learner(support), support_y))
            return F.cross_entropy(learner(query), query_y)

    return outer_step(case, net, case.data(dtype), task_loss)


def higher_adapt(case: Case, algorithm: str, dtype: torch.dtype = torch.float32) -> Adapt:
    import higher

    front, back = halves(network(case, dtype), algorithm)
    sgd = torch.optim.SGD(back.parameters(), lr=case.lr)
    support_x, support_y, query_x = first_task(case.data(dtype))

    def adapt() -> Tensor:
        with torch.no_grad():
            support, query = front(support_x), front(query_x)
        with higher.innerloop_ctx(back, sgd, track_higher_grads=False) as (learner, inner):
            for _ in range(case.adapt_steps):
                inner.step(F.cross_entropy(learner(support), support_y))
            with torch.no_grad():
                return learner(query)

    return adapt


# torchopt: MetaSGD swaps the module's parameters for adapted ones; the state is put back after each task.


def torchopt_train(case: Case, algorithm: str, dtype: torch.dtype = torch.float32) -> Train:
    import torchopt

    net = network(case, dtype)
    front, back = halves(net, algorithm)
    inner = torchopt.MetaSGD(back, lr=case.lr)

    def task_loss(support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        support, query = front(support_x), front(query_x)
        net_state = torchopt.extract_state_dict(back, by="reference", detach_buffers=True)
        inner_state = torchopt.extract_state_dict(inner, by="reference")
        for _ in range(case.steps):
            inner.step(F.cross_entropy(back(support), support_y))
        loss = F.cross_entropy(back(query), query_y)
        torchopt.recover_state_dict(back, net_state)
        torchopt.recover_state_dict(inner, inner_state)
        return loss

    return outer_step(case, net, case.data(dtype), task_loss)


def torchopt_adapt(case: Case, algorithm: str, dtype: torch.dtype = torch.float32) -> Adapt:
    """Its plain SGD on a clone: MetaSGD, which its example uses here too, always records the outer graph."""
    import torchopt

    front, back = halves(network(case, dtype), algorithm)
    support_x, support_y, query_x = first_task(case.data(dtype))

    def adapt() -> Tensor:
        with torch.no_grad():
            support, query = front(support_x), front(query_x)
        learner = torchopt.module_clone(back, by="deepcopy")
        sgd = torchopt.SGD(learner.parameters(), lr=case.lr)
        for _ in range(case.adapt_steps):
            loss = F.cross_entropy(learner(support), support_y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        with torch.no_grad():
            return learner(query)

    return adapt
