"""Answers from frozen features: a rule such as `Ridge()` between a few labelled images and any others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.embedding import check_alone
from innerloop.heads import Prototypes, Ridge
from innerloop.inner import InnerLoop
from innerloop.predictors import NIL, features
from innerloop.tasks import Episodes

Rule = NIL | Prototypes | Ridge | InnerLoop
"""What can answer from features: an `InnerLoop` only if it adapts the head alone."""

Answer = Callable[[Tensor, Statistics], Tensor]
"""From images (q, c, h, w) and whose statistics normalise them to outputs (q, w)."""

USUAL = Prototypes(distance="cosine", scale=10.0)
"""The rule of a pretrained network if none is asked for."""

_CHUNK = 64  # images


def check_rule(rule: object) -> None:
    """Refuse what cannot answer from features.

    Raises:
        ValueError: it is no such rule, or an inner loop that changes the features.
    """
    if not isinstance(rule, Rule):
        raise ValueError(f"method must be auto, head, nil, or a rule such as Ridge() or Prototypes(), got {rule!r}")
    if isinstance(rule, InnerLoop) and not all(pattern.startswith("head.") for pattern in rule.adapt):
        raise ValueError(f'an inner loop between features adapts the head alone, ("head.*",), got {rule.adapt}')


def answering(network: nn.Module, rule: Rule, images: Tensor, labels: Tensor, ways: int) -> Answer:
    """From labelled images, (s, c, h, w) and (s,), a function from images (q, c, h, w) to outputs (q, w).

    The labelled images' features are computed once, if they do not depend on the others. Each class counts the same
    in NIL, as it does in the others, however many images it has.
    """
    rule = rule if isinstance(rule, InnerLoop) else replace(rule, way=ways)
    share = labels.bincount(minlength=ways).log() if isinstance(rule, NIL) else 0.0
    try:
        check_alone(network)
    except ValueError:

        def embedded(x: Tensor) -> Tensor:
            return x

        head: nn.Module = network
    else:
        body = features(network)

        def embedded(x: Tensor) -> Tensor:
            return torch.cat([body(part).flatten(1) for part in x.split(_CHUNK)])

        head = nn.Sequential(OrderedDict(head=_zero_head(embedded(images[:1]).shape[1], ways, images)))
    support = embedded(images)
    rules = {kind: replace(rule, statistics=kind) for kind in get_args(Statistics)}  # the same ones: bound to once

    def outputs(query: Tensor, statistics: Statistics) -> Tensor:
        targets = labels.new_zeros(1, len(query))
        task = Episodes(support.unsqueeze(0), labels.unsqueeze(0), embedded(query).unsqueeze(0), targets)
        return rules[statistics](head, task, chunk_size=1)[-1, 0] - share

    return outputs


def _zero_head(inputs: int, ways: int, like: Tensor) -> nn.Linear:
    head = nn.Linear(inputs, ways, device=like.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
