"""What meta-RL costs: simulation, and the parts of an outer step, beside what others do for the same.

All numbers are seconds of one core (CPU time), so that a machine with other work changes them little. The simulators
take turns, and so do the two ways to compute an outer step, on the same policy and the same states.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Independent, Normal, kl_divergence

import innerloop
from innerloop.device import cpu_name
from innerloop.rl.config import Learning, Settings
from innerloop.rl.meta import Collected, Outer, Seconds, collect, improve
from innerloop.rl.options import Trpo
from innerloop.rl.policy import Policy
from innerloop.rl.trpo import conjugate_gradient, line_search


def main() -> None:
    """Print a line for every measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", nargs="+", default=["simulation", "iteration", "outer"])
    parser.add_argument("--task", default="cheetah-velocity")
    parser.add_argument("--meta-batch", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    innerloop.tune_cpu()
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Any]] = {
        "simulation": lambda: simulation(given.rounds),
        "iteration": lambda: {name: iteration(given, name) for name in ("maml", "anil")},
        "outer": lambda: {name: outer(given, name) for name in ("maml", "anil")},
    }
    found = {what: parts[what]() for what in given.what}
    print(json.dumps(found, indent=1))
    if given.out:
        about = {"cpu": cpu_name(), "torch": torch.__version__, "task": given.task, "meta_batch": given.meta_batch}
        given.out.write_text(json.dumps({**about, **found}, indent=1))


def cpu(function: Callable[[], Any]) -> float:
    """Seconds of one core."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def simulation(rounds: int) -> dict[str, float]:
    """Environment steps a second and core: the cheetah here, 800 at once, and in a vector environment of gymnasium."""
    import gymnasium

    ours, count = Settings("cheetah-velocity").environment(), 800
    generator = torch.Generator().manual_seed(0)
    ours.reset(torch.ones(40), 20, generator)
    actions = torch.randn(25, 40, 20, 6, generator=generator).clamp(-1, 1)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("HalfCheetah-v5") for _ in range(64)])
    theirs.reset(seed=0)
    their_actions = np.random.default_rng(0).uniform(-1, 1, (25, 64, 6)).astype(np.float32)
    fast, slow = [], []
    for _ in range(rounds):
        fast.append(25 * count / cpu(lambda: [ours.step(a) for a in actions]))
        slow.append(25 * 64 / cpu(lambda: [theirs.step(a) for a in their_actions]))
    mine, other = statistics.median(fast), statistics.median(slow)
    return {"innerloop": round(mine), "gymnasium": round(other), "ratio": round(mine / other, 2)}


def iteration(given: argparse.Namespace, algorithm: Any) -> dict[str, float]:
    """Where the time of one iteration goes, at full settings; the second of two, which finds everything warm."""
    policy, settings, generator, environment = made(given, algorithm)
    for _ in range(2):
        seconds = Seconds(clock=time.process_time)
        tasks, inner = environment.sample(given.meta_batch, generator), settings.learning.inner()
        seen = collect(policy, environment, tasks, inner, generator, seconds=seconds)
        improve(policy, seen, inner, seconds=seconds)
    return {part: round(value, 2) for part, value in seconds.parts.items()} | {
        "all": round(sum(seconds.parts.values()), 2)
    }


def outer(given: argparse.Namespace, algorithm: Any) -> dict[str, float]:
    """Curvature and line search: written out, on all states and on a fifth; and by autograd of autograd."""
    policy, settings, generator, environment = made(given, algorithm)
    inner = settings.learning.inner()
    tasks = environment.sample(given.meta_batch, generator)
    seen = collect(policy, environment, tasks, inner, generator)
    gradient = Outer(policy, seen, inner, Trpo()).gradient()
    ways: dict[str, Callable[[], Any]] = {
        "a fifth": lambda: ours(policy, seen, inner, gradient, Trpo()),
        "exact": lambda: ours(policy, seen, inner, gradient, Trpo(curvature_every=1)),
        "double backward": lambda: double_backward(policy, seen, inner, gradient),
    }
    steps: dict[str, torch.Tensor] = {}

    def keep(name: str) -> None:
        steps[name] = ways[name]()

    times = {name: cpu(lambda name=name: keep(name)) for name in ways}
    torch.testing.assert_close(steps["exact"], steps["double backward"], rtol=1e-2, atol=1e-4)
    theirs = times["double backward"]
    return {name: round(value, 2) for name, value in times.items()} | {
        f"{name}, times as fast": round(theirs / value, 2) for name, value in times.items() if name != "double backward"
    }


def made(given: argparse.Namespace, algorithm: Any) -> tuple[Policy, Settings, torch.Generator, Any]:
    torch.manual_seed(0)
    settings = replace(Settings(given.task), learning=Learning(algorithm))
    environment = settings.environment()
    return settings.policy(environment), settings, torch.Generator().manual_seed(0), environment


def ours(policy: Policy, seen: Collected, inner: Any, gradient: torch.Tensor, how: Trpo) -> torch.Tensor:
    """The step that TRPO takes."""
    around = Outer(policy, seen, inner, how)
    found = conjugate_gradient(around.curvature(), gradient, how.cg_steps, how.cg_tolerance)
    length = (2 * how.max_kl / (found.x @ found.image)).sqrt()
    accepted = line_search(around.measure, -length * found.x, how)
    return gradient if accepted is None else accepted.step


def double_backward(policy: Policy, seen: Collected, inner: Any, gradient: torch.Tensor) -> torch.Tensor:
    """The same as learn2learn's example maml_trpo computes it.

    Task after task; each product is a backward pass through a kept graph of the divergence's gradient, and each try of
    the line search adapts with a graph for second derivatives that nobody asks for. Left out of its arithmetic is what
    it does besides: fitting baselines anew in every try.
    """
    how, support, query = Trpo(), *seen.batches
    adapting = [name for name, _ in policy.named_parameters() if inner.adapt == ("*",) or name.startswith("head")]
    olds = [density(policy, {n: p[i] for n, p in seen.path[-1].items()}, x) for i, x in enumerate(query.observations)]

    def loss_and_kl(params: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        loss = kl = torch.zeros(())
        for i, old in enumerate(olds):
            said = density(policy, params, support.observations[i]).log_prob(support.actions[i])
            inner_loss = -(support.weights[i] * support.advantages[i] * said).sum()
            grads = torch.autograd.grad(inner_loss, [params[n] for n in adapting], create_graph=True)
            new_params = {**params, **{n: params[n] - inner.lr * g for n, g in zip(adapting, grads, strict=True)}}
            new = density(policy, new_params, query.observations[i])
            ratio = (new.log_prob(query.actions[i]) - old.log_prob(query.actions[i]).detach()).exp()
            loss = loss - (query.weights[i] * query.advantages[i] * ratio).sum() / len(olds)
            kl = kl + (query.weights[i] * kl_divergence(new.base_dist, old.base_dist).mean(-1)).sum() / len(olds)
        return loss, kl

    theta = {name: p.detach().requires_grad_() for name, p in policy.named_parameters()}
    loss, kl = loss_and_kl(theta)
    slopes = torch.cat([g.flatten() for g in torch.autograd.grad(kl, list(theta.values()), create_graph=True)])

    def times(row: torch.Tensor) -> torch.Tensor:
        product = torch.autograd.grad(slopes @ row, list(theta.values()), retain_graph=True)
        return torch.cat([p.flatten() for p in product]) + how.damping * row

    found = conjugate_gradient(times, gradient, how.cg_steps, how.cg_tolerance)
    step = (2 * how.max_kl / (found.x @ times(found.x))).sqrt() * found.x

    def measure(move: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = move.split([p.numel() for p in theta.values()])
        moved = {
            n: (p.detach() + m.view(p.shape)).requires_grad_() for (n, p), m in zip(theta.items(), parts, strict=True)
        }
        new_loss, new_kl = loss_and_kl(moved)
        return new_loss.detach() - loss.detach(), new_kl.detach()

    accepted = line_search(measure, -step, how)
    return gradient if accepted is None else accepted.step


def density(policy: Policy, params: dict[str, torch.Tensor], x: torch.Tensor) -> Independent:
    for name in policy.layers[:-1]:
        x = torch.nn.functional.linear(x, params[f"{name}.weight"], params[f"{name}.bias"]).relu()
    mean = torch.nn.functional.linear(x, params["head.weight"], params["head.bias"])
    return Independent(Normal(mean, params["log_std"].exp(), validate_args=False), 1, validate_args=False)


if __name__ == "__main__":
    main()
