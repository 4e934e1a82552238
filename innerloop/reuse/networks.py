"""How alike two networks see the same tasks, before and after each has adapted (Raghu et al. 2020, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor, nn

from innerloop.inner import InnerLoop, adapt
from innerloop.params import layers_of, resting
from innerloop.reuse.likeness import ByLayer, Likenesses, Neurons, state_of, tasks_of
from innerloop.similarity import activations
from innerloop.tasks import Episodes


@dataclass(frozen=True)
class Resemblance:
    """How alike two networks see the same tasks: "pre-post" is the first before, the second after it adapted."""

    cca: dict[str, ByLayer]
    cka: dict[str, ByLayer]
    permuted: dict[str, ByLayer]  # "cca" and "cka" before adaptation, each image with another one
    points: dict[str, int]  # data points of each comparison
    tasks: int


def resemblance(
    first: nn.Module,
    second: nn.Module,
    episodes: Iterable[Episodes],
    inner: InnerLoop | None = None,
    *,
    layers: Sequence[str] | None = None,
    neurons: Neurons = None,
) -> Resemblance:
    """Compare the layers of two networks on the query images of the same tasks, each layer with its namesake.

    With `inner`, also after each network has adapted to the task; without, "pre-pre" alone.
    """
    names = layers_of(first) if layers is None else list(layers)
    times = ("pre", "post") if inner else ("pre",)
    pairs = {f"{a}-{b}": (a, b) for a, b in product(times, times)}
    found = {when: Likenesses(neurons) for when in pairs}
    for support_x, support_y, query_x, _ in tasks_of(episodes):
        seen: list[dict[str, Mapping[str, Tensor]]] = []
        for network in (first, second):
            states = {"pre": state_of(network)}
            with resting(network):
                if inner:
                    states["post"] = adapt(network, support_x, support_y, inner)
                seen.append({time: activations(network, query_x, names, state) for time, state in states.items()})
        for when, (a, b) in pairs.items():
            found[when].add(seen[0][a], seen[1][b])
    cca, cka = ({when: each.mean(kind) for when, each in found.items()} for kind in ("cca", "cka"))
    before = found["pre-pre"]
    return Resemblance(cca, cka, before.permuted(), before.points, len(before.rows["cca"]))
