"""MAML-TRPO and ANIL-TRPO: learn a policy that one step of policy gradient makes good at a new task.

Shapes: t tasks, n trajectories a task, x = n h states a task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.descent import descend, last, loop_grad
from innerloop.inner import InnerLoop
from innerloop.params import Params, chosen
from innerloop.rl.advantages import Samples, fit, samples, thinned
from innerloop.rl.curvature import Adaptation, Fisher, flat, like
from innerloop.rl.derivatives import Bend, Point
from innerloop.rl.environment import Environment, Tasks
from innerloop.rl.objective import divergence, reinforce, surrogate
from innerloop.rl.options import Advantage, Trpo
from innerloop.rl.policy import Outputs, Policy, log_prob
from innerloop.rl.rollout import Trajectories, rollout
from innerloop.rl.trpo import Accepted, conjugate_gradient, line_search

ROWS = 2**12
"""States that a CPU works on at once: what they need stays in its caches."""


class Collected(NamedTuple):
    """What a policy did in some tasks, before and after each inner step."""

    tasks: Tasks
    tried: list[Trajectories]  # after 0, 1, ... steps
    batches: list[Samples]  # the same, with their advantages
    path: list[dict[str, Tensor]]  # the parameters of each task, (t, ...), after 0, 1, ... steps

    def returns(self) -> Tensor:
        """The mean return of each task after 0, 1, ... steps, (k + 1, t)."""
        return torch.stack([trajectories.returns() for trajectories in self.tried])


@dataclass
class Seconds:
    """Where the time of an iteration goes."""

    parts: dict[str, float] = field(default_factory=dict[str, float])
    clock: Callable[[], float] = time.perf_counter

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        begun = self.clock()
        yield
        self.parts[part] = self.parts.get(part, 0.0) + self.clock() - begun


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread: the small layers of a rollout would wait for others more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_plain(inner: InnerLoop) -> None:
    """Refuse what is for images, or what the written-out derivatives do not know.

    Raises:
        ValueError: there is such an option.
    """
    ours = ("adapt", "steps", "lr", "first_order")
    odd = [f.name for f in fields(inner) if f.name not in ours and getattr(inner, f.name) != f.default]
    if odd or not isinstance(inner.lr, int | float):
        raise ValueError(
            f"a policy's inner loop is plain gradient descent with one lr: leave {', '.join(odd) or 'lr'} as InnerLoop "
            "has it by default"
        )


def parameters(policy: Policy) -> dict[str, Tensor]:
    """By name, apart from the graph."""
    return {name: p.detach() for name, p in policy.named_parameters()}


def chunks(count: int, rows: int, chunk_size: int | None, device: torch.device) -> list[tuple[int, int]]:
    """Which tasks to work on at once, as (start, stop): few on a CPU, whose caches are small; all on a GPU."""
    size = chunk_size or (max(1, ROWS // max(rows, 1)) if device.type == "cpu" else count)
    return [(start, min(start + size, count)) for start in range(0, count, size)]


@torch.no_grad()
def adapt(
    policy: Policy, path: Params, batch: Samples, inner: InnerLoop, *, chunk_size: int | None = None
) -> dict[str, Tensor]:
    """The parameters of each task, (t, ...), one inner step further down the gradient of `reinforce`."""
    adapting, parts = chosen(policy, inner.adapt), []
    count, rows = batch.weights.shape
    for start, stop in chunks(count, rows, chunk_size, batch.weights.device):
        part, fixed = batch.tasks(start, stop), {name: p[start:stop] for name, p in path.items()}

        def objective(params: Params, part: Samples = part, fixed: Params = fixed) -> Tensor:
            return reinforce(policy.outputs({**fixed, **params}, part.observations), part)

        begin = {name: fixed[name] for name in adapting}
        assert isinstance(inner.lr, int | float)  # `check_plain`
        steps = descend(objective, begin, 1, dict.fromkeys(begin, inner.lr), gradient=loop_grad)
        parts.append(last(steps))
    return {**path, **{name: torch.cat([part[name] for part in parts]) for name in adapting}}


@torch.no_grad()
def collect(
    policy: Policy,
    environment: Environment,
    tasks: Tasks,
    inner: InnerLoop,
    generator: torch.Generator,
    *,
    trajectories: int = 20,
    advantage: Advantage | None = None,
    chunk_size: int | None = None,
    seconds: Seconds | None = None,
) -> Collected:
    """Try each task, adapt to it, and try again, once for every inner step.

    Args:
        policy: what acts; it stays as it is.
        environment: the family of tasks.
        tasks: t of them.
        inner: which parameters adapt, in how many steps of which size; every step has trajectories of its own.
        generator: where the environment and the policy draw from, on the CPU.
        trajectories: of each task, before and after each step.
        advantage: how advantages are estimated.
        chunk_size: tasks that are worked on at once; None lets the device and the size decide.
        seconds: notes what it takes.

    Raises:
        ValueError: the inner loop asks for what policies cannot, the policy diverged, or the environment failed.
    """
    check_plain(inner)
    how, seconds = advantage or Advantage(), seconds or Seconds()
    theta = parameters(policy)
    acting: Params = theta
    path = [{name: p.expand(len(tasks), *p.shape) for name, p in theta.items()}]
    tried: list[Trajectories] = []
    batches: list[Samples] = []
    coefficients: Tensor | None = None
    for step in range(inner.steps + 1):
        with seconds.of("simulation"), one_thread():
            tried.append(rollout(policy, acting, environment, tasks, trajectories, generator))
        with seconds.of("adaptation"):
            if coefficients is None or how.baseline == "each":
                coefficients = fit(tried[-1], how)
            batches.append(samples(tried[-1], coefficients, how))
            if step < inner.steps:
                path.append(adapt(policy, path[-1], batches[-1], inner, chunk_size=chunk_size))
                acting = path[-1]
    return Collected(tasks, tried, batches, path)


class Improvement(NamedTuple):
    """What an outer step did."""

    accepted: Accepted | None  # None: no step lowered the loss within the trust region
    gradient: Tensor  # of the surrogate loss, in the order of the parameters
    seconds: dict[str, float]


@torch.no_grad()
def improve(
    policy: Policy,
    collected: Collected,
    inner: InnerLoop,
    trpo: Trpo | None = None,
    *,
    chunk_size: int | None = None,
    seconds: Seconds | None = None,
) -> Improvement:
    """Change the policy in place by one step of TRPO on the mean surrogate loss after adaptation."""
    how, seconds = trpo or Trpo(), seconds or Seconds()
    outer = Outer(policy, collected, inner, how, chunk_size)
    with seconds.of("gradient"):
        gradient = outer.gradient()
    if not gradient.any():
        return Improvement(None, gradient, seconds.parts)
    with seconds.of("curvature"):
        found = conjugate_gradient(outer.curvature(), gradient, how.cg_steps, how.cg_tolerance)
        length = (2 * how.max_kl / (found.x @ found.image)).sqrt()
    with seconds.of("line search"):
        accepted = line_search(outer.measure, -length * found.x, how)
    if accepted is not None:
        for p, move in zip(policy.parameters(), like(accepted.step, outer.theta).values(), strict=True):
            p.add_(move)
    return Improvement(accepted, gradient, seconds.parts)


class Outer:
    """The outer objective around a policy, from what it did."""

    def __init__(
        self, policy: Policy, collected: Collected, inner: InnerLoop, how: Trpo, chunk_size: int | None = None
    ) -> None:
        self.policy, self.collected, self.inner, self.how, self.chunk_size = policy, collected, inner, how, chunk_size
        self.theta = parameters(policy)
        self.count = len(collected.batches[-1].weights)
        self._old = [self._outputs(collected.path[-1], part) for part in self._parts(collected.batches)]

    def _parts(self, batches: Sequence[Samples]) -> list[tuple[int, int]]:
        return chunks(self.count, batches[-1].weights.shape[1], self.chunk_size, batches[-1].weights.device)

    def _outputs(self, path: Params, part: tuple[int, int]) -> Outputs:
        query = self.collected.batches[-1].tasks(*part)
        return self.policy.outputs({name: p[slice(*part)] for name, p in path.items()}, query.observations)

    def _adaptation(self, batches: Sequence[Samples], part: tuple[int, int]) -> Adaptation:
        path = [{name: p[slice(*part)] for name, p in params.items()} for params in self.collected.path]
        return Adaptation(self.policy, self.inner, path, [batch.tasks(*part) for batch in batches[:-1]])

    @torch.no_grad()
    def gradient(self) -> Tensor:
        """Of the mean surrogate loss, through the adaptation."""
        batches = self.collected.batches
        total = torch.zeros_like(flat(self.theta))
        for part in self._parts(batches):
            adaptation, query = self._adaptation(batches, part), batches[-1].tasks(*part)
            point = Point(self.policy, adaptation.path[-1], query.observations)
            old = log_prob(point.outputs, query.actions)

            def loss(outputs: Outputs, old: Tensor = old, query: Samples = query) -> Tensor:
                return surrogate(outputs, old, query)

            back = adaptation.pull(point.pull(Bend(point.outputs, loss).gradient)[0])
            total += flat({name: back[name] for name in self.theta})
        return total / self.count

    @torch.no_grad()
    def curvature(self) -> Any:
        """The product of a row of numbers with the mean KL divergence's Hessian, plus the damping."""
        pairs = zip(self.collected.batches, self.collected.tried, strict=True)
        batches = [thinned(batch, tried, self.how.curvature_every) for batch, tried in pairs]
        fishers = [
            Fisher(self._adaptation(batches, part), batches[-1].tasks(*part), self.how.kl)
            for part in self._parts(batches)
        ]

        @torch.no_grad()
        def times(row: Tensor) -> Tensor:
            along, total = like(row, self.theta), torch.zeros_like(row)
            for fisher in fishers:
                product = fisher.times(along)
                total += flat({name: product[name] for name in self.theta})
            return total / self.count + self.how.damping * row

        return times

    @torch.no_grad()
    def measure(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """How the mean surrogate loss changes, and the mean KL divergence, after `step`."""
        moved = {name: self.theta[name] + x for name, x in like(step, self.theta).items()}
        path: Params = {name: p.expand(self.count, *p.shape) for name, p in moved.items()}
        for batch in self.collected.batches[:-1]:
            path = adapt(self.policy, path, batch, self.inner, chunk_size=self.chunk_size)
        change = kl = step.new_zeros(())
        for part, old in zip(self._parts(self.collected.batches), self._old, strict=True):
            query = self.collected.batches[-1].tasks(*part)
            new, before = self._outputs(path, part), log_prob(old, query.actions)
            change = change + surrogate(new, before, query) + (query.weights * query.advantages).sum()
            kl = kl + divergence(new, old, query, self.how.kl)
        return change / self.count, kl / self.count
