"""The textbook, slow and dumb: loops over tasks and steps, `torch.autograd.grad`, layers written out by hand.

Nothing here uses innerloop, torch.func, or torch's convolutions, poolings and norms. Meant for float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def own(x, eps):
    """Standardise by the batch's own moments."""
    return standardise(x, moments(x), eps)


def gather(store):
    """As `own`, and note the moments of every norm on the way."""

    def norm(x, eps):
        store.append(moments(x))
        return standardise(x, store[-1], eps)

    return norm


def replay(store):
    """Standardise by moments that another batch left behind."""
    rest = iter(store)
    return lambda x, eps: standardise(x, next(rest), eps)


def moments(x):
    columns = x.transpose(0, 1).flatten(1)
    mean = columns.sum(1) / columns.shape[1]
    return mean, ((columns - mean[:, None]) ** 2).sum(1) / columns.shape[1]


def standardise(x, moments, eps):
    mean, variance = (moment.view(-1, *[1] * (x.ndim - 2)) for moment in moments)
    return (x - mean) / (variance + eps) ** 0.5


def conv_same(x, weight, bias, stride):
    """A 3x3 convolution with the padding that TensorFlow calls SAME."""
    height, width = x.shape[2:]
    rows, columns = -(-height // stride), -(-width // stride)
    padded = x.new_zeros(*x.shape[:2], height + 4, width + 4)
    top, left = (max((out - 1) * stride + 3 - size, 0) // 2 for out, size in ((rows, height), (columns, width)))
    padded[:, :, top : top + height, left : left + width] = x
    result = 0
    for i in range(3):
        for j in range(3):
            seen = padded[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
            result = result + torch.einsum("nchw,oc->nohw", seen, weight[:, :, i, j])
    return result if bias is None else result + bias.view(1, -1, 1, 1)


def max_pool(x):
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    return x[:, :, : rows * 2, : columns * 2].unflatten(3, (columns, 2)).unflatten(2, (rows, 2)).amax((3, 5))


def conv_net(*, blocks, pooling, eps, spatial_mean, halvings=4):
    """The forward pass of a conv net whose parameters are called as in `innerloop.models.conv4`."""

    def forward(params, x, norm):
        for i in range(blocks):
            name, halves = f"block{i + 1}", pooling if i < halvings else None
            x = conv_same(
                x, params[f"{name}.conv.weight"], params.get(f"{name}.conv.bias"), 2 if halves == "stride" else 1
            )
            x = norm(x, eps)
            if f"{name}.norm.weight" in params:
                x = x * params[f"{name}.norm.weight"].view(1, -1, 1, 1)
            x = (x + params[f"{name}.norm.bias"].view(1, -1, 1, 1)).clamp_min(0)
            x = max_pool(x) if halves == "max" else x
        x = x.sum((2, 3)) / (x.shape[2] * x.shape[3]) if spatial_mean else x.reshape(len(x), -1)
        return linear(params, "head", x)

    return forward


def mlp(params, x, norm):  # noqa: ARG001
    for name in sorted({name.split(".")[0] for name in params} - {"head"}):
        x = linear(params, name, x).clamp_min(0)
    return linear(params, "head", x)


def linear(params, name, x):
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def learn(forward, params, adapting, steps, lr, first_order, loss, task, statistics="query"):
    """The query outputs of one task after 0, 1, ..., `steps` steps of gradient descent, (steps + 1, q, w)."""
    support_x, support_y, query_x = task
    outputs = [query_outputs(forward, params, support_x, query_x, statistics)]
    for _ in range(steps):
        value = loss(forward(params, support_x, own), support_y)
        grads = torch.autograd.grad(value, [params[name] for name in adapting], create_graph=not first_order)
        params = {**params, **{name: params[name] - lr * g for name, g in zip(adapting, grads, strict=True)}}
        outputs.append(query_outputs(forward, params, support_x, query_x, statistics))
    return torch.stack(outputs)


def query_outputs(forward, params, support_x, query_x, statistics):
    if statistics == "query":
        return forward(params, query_x, own)
    if statistics == "image":
        return torch.cat([forward(params, query_x[i : i + 1], own) for i in range(len(query_x))])
    store = []
    forward(params, support_x, gather(store))
    return forward(params, query_x, replay(store))


def meta(forward, params, adapting, steps, lr, first_order, loss, episodes, statistics="query"):
    """Outputs, (steps + 1, t, q, w), the mean query loss after the last step, and its gradient in every parameter."""
    params = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    outputs, total = [], 0
    for support_x, support_y, query_x, query_y in zip(*episodes, strict=True):
        task = support_x, support_y, query_x
        outputs.append(learn(forward, params, adapting, steps, lr, first_order, loss, task, statistics))
        total = total + loss(outputs[-1][-1], query_y) / len(episodes[0])
    grads = torch.autograd.grad(total, list(params.values()))
    return torch.stack(outputs, 1).detach(), total.detach(), dict(zip(params, grads, strict=True))


def nil(support, labels, query, way, temperature=1.0):
    """Matching by cosines (Vinyals et al. 2016) for the features of one task; the log of the label weights, (q, w)."""
    rows = []
    for q in query:
        cosines = [(q @ s) / (q.square().sum().sqrt() * s.square().sum().sqrt()) for s in support]
        powers = [(cosine / temperature).exp() for cosine in cosines]
        votes = [sum(p for p, y in zip(powers, labels.tolist(), strict=True) if y == label) for label in range(way)]
        rows.append(torch.stack([(vote / sum(powers)).log() for vote in votes]))
    return torch.stack(rows)


def cross_entropy(outputs, labels):
    """By hand: the mean negative log-probability of the label."""
    return -F.log_softmax(outputs, 1)[range(len(labels)), labels].mean()


def mse(outputs, values):
    """The mean squared error."""
    return ((outputs - values) ** 2).mean()
