"""Meta-RL as the textbook has it: loops over tasks and trajectories, torch.distributions, autograd of autograd."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence


def distribution(policy, params, observations, *, summed=True):
    x = observations
    for name in policy.layers[:-1]:
        x = x @ params[f"{name}.weight"].T + params[f"{name}.bias"]
        x = x.relu() if policy.activation == "relu" else x.tanh()  # slope 0 at 0, where new biases put dead units
    x = x @ params["head.weight"].T + params["head.bias"]
    if policy.discrete:
        return Categorical(logits=x)
    normal = Normal(x, params["log_std"].exp())
    return Independent(normal, 1) if summed else normal


def trajectories_of(tried, task):
    """(observations, actions, rewards) of each trajectory, without what stands behind its end."""
    for n in range(tried.taken.shape[1]):
        steps = int(tried.taken[task, n].sum())
        yield tuple(part[task, n, :steps] for part in (tried.observations, tried.actions, tried.rewards))


def returns(rewards, discount):
    result, total = [], 0.0
    for reward in reversed(rewards.tolist()):
        total = reward + discount * total
        result.insert(0, total)
    return result


def features(observations):
    rows = []
    for step, observation in enumerate(observations.tolist(), start=1):
        u = step / 100
        rows.append([*observation, *(o * o for o in observation), u, u**2, u**3, 1.0])
    return torch.tensor(rows, dtype=torch.float64)


def baseline(tried, task, discount, ridge):
    paths = list(trajectories_of(tried, task))
    x = torch.cat([features(o) for o, _, _ in paths])
    y = torch.tensor([y for _, _, r in paths for y in returns(r, discount)], dtype=torch.float64)
    return torch.linalg.inv(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)) @ (x.T @ y)


def advantages(tried, task, coefficients, discount, smoothing):
    """Of each trajectory, normalised over all steps of the task."""
    result = []
    for observations, _, rewards in trajectories_of(tried, task):
        values = [*(features(observations) @ coefficients).tolist(), 0.0]
        errors = [r + discount * values[i + 1] - values[i] for i, r in enumerate(rewards.tolist())]
        result.append(returns(torch.tensor(errors, dtype=torch.float64), discount * smoothing))
    flat = torch.tensor([x for row in result for x in row], dtype=torch.float64)
    mean, std = flat.mean(), flat.std(correction=0)
    return [(torch.tensor(row, dtype=torch.float64) - mean) / (std + 1e-8) for row in result]


def inner_loss(policy, params, tried, task, scores):
    losses = []
    for (observations, actions, _), score in zip(trajectories_of(tried, task), scores, strict=True):
        losses.append(-(distribution(policy, params, observations).log_prob(actions) * score).mean())
    return sum(losses) / len(losses)


def adapted(policy, params, tried, task, scores, adapting, lr, *, first_order=False):
    loss = inner_loss(policy, params, tried, task, scores)
    grads = torch.autograd.grad(loss, [params[name] for name in adapting], create_graph=True)
    moved = {n: params[n] - lr * (g.detach() if first_order else g) for n, g in zip(adapting, grads, strict=True)}
    return {**params, **moved}


def surrogate(policy, params, old, tried, task, scores):
    losses = []
    for (observations, actions, _), score in zip(trajectories_of(tried, task), scores, strict=True):
        before = distribution(policy, old, observations).log_prob(actions).detach()
        ratio = (distribution(policy, params, observations).log_prob(actions) - before).exp()
        losses.append(-(ratio * score).mean())
    return sum(losses) / len(losses)


def divergence(policy, params, old, tried, task, over):
    result = []
    for observations, _, _ in trajectories_of(tried, task):
        summed = over == "sum"
        new = distribution(policy, params, observations, summed=summed)
        before = distribution(policy, {n: p.detach() for n, p in old.items()}, observations, summed=summed)
        result.append(kl_divergence(new, before).mean())
    return sum(result) / len(result)
