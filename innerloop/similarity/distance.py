"""How far weights moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def weight_distance(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], layers: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """The Euclidean distance between two state dicts for each layer, all parameters of the layer as one vector.

    Args:
        before: name to tensor.
        after: the same names and shapes, each tensor with or without leading axes more, such as (t, ...) for t tasks.
        layers: module names such as "body.conv1"; None takes the first part of every name: the top-level children.

    Returns:
        Layer to distance, 0-d or (t,). Tensors of integers, such as counters, are left out.

    Raises:
        ValueError: the names or shapes do not fit, or a layer has no tensor.
    """
    if odd := sorted(before.keys() ^ after.keys()):
        raise ValueError(f"only one of the two has {', '.join(odd)}. Compare state dicts of the same network.")
    names = [name for name, value in before.items() if value.is_floating_point()]
    distances = {}
    for layer in dict.fromkeys(name.split(".")[0] for name in names) if layers is None else layers:
        members = [name for name in names if f"{name}.".startswith(f"{layer}.")]
        if not members:
            raise ValueError(f"no parameter belongs to layer {layer!r}. There are {', '.join(names)}.")
        squares = [_squared(name, before[name], after[name]) for name in members]
        distances[layer] = torch.stack(torch.broadcast_tensors(*squares)).sum(0).sqrt()
    return distances


def _squared(name: str, before: Tensor, after: Tensor) -> Tensor:
    leading = after.ndim - before.ndim
    if leading < 0 or after.shape[leading:] != before.shape:
        raise ValueError(
            f"{name} is {tuple(before.shape)} before and {tuple(after.shape)} after: after may only have leading axes "
            "more. Compare state dicts of the same network."
        )
    gap = after.detach().double() - before.detach().to(after.device, torch.float64)
    return gap.square().sum(list(range(leading, after.ndim))) if before.ndim else gap.square()
