"""Few-shot episodes drawn from a bank of classes.

Episode i is a function of (seed, bank name, i) and of nothing else: its random numbers come from a counter-based
hash in integer arithmetic, so the batch size, the device and where a run was interrupted change nothing.

Shapes: t tasks, w ways (classes of one task), k shots and q queries a class, n images, c channels, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from innerloop.data.apart import Division, division, support_side
from innerloop.data.counter_rng import LARGEST, hashed, key, keys, numbered
from innerloop.tasks import Episodes

if TYPE_CHECKING:
    from PIL.Image import Image

    from innerloop.data.bank import Bank


@dataclass(frozen=True, eq=False, repr=False)
class EpisodeStream:
    """A sequence of episode batches: iterate it, or index it, which costs the same wherever you start.

    Raises:
        ValueError: the bank has too few classes for `way`, or a class too few items for `shot + query`, or too few
            subjects to take them from different ones.
    """

    bank: Bank
    way: int
    shot: int  # support images a class
    query: int  # query images a class
    tasks: int = 1  # episodes in one batch
    count: int = 1  # batches
    seed: int = 0
    divided: Division | None = field(init=False)

    def __post_init__(self) -> None:
        for name in ("way", "shot", "query", "tasks", "count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.bank) < self.way:
            raise ValueError(
                f"{self.bank.name} has {len(self.bank)} classes, too few for {self.way}-way episodes. "
                f"Lower `way`, or split the data so that this part has more classes."
            )
        need = self.shot + self.query
        small = [(name, size) for name, size in zip(self.bank.classes, self.bank.sizes, strict=True) if size < need]
        if small:
            shown = ", ".join(f"{name} ({size})" for name, size in small[:5]) + (", ..." if len(small) > 5 else "")
            raise ValueError(
                f"{len(small)} of the {len(self.bank)} classes of {self.bank.name} have fewer than the {need} images "
                f"that {self.shot} shots and {self.query} queries need: {shown}. Lower `shot` or `query`, or leave "
                f"these classes out."
            )
        divided = None if self.bank.subjects is None else division(self.bank, self.shot, self.query)
        object.__setattr__(self, "divided", divided)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Episodes:
        if not 0 <= index < self.count:
            raise IndexError(f"batch {index} of a stream of {self.count}")
        return self.at(torch.full((), index, device=self.bank.items.device))  # waits for no GPU

    def __iter__(self) -> Iterator[Episodes]:
        for index in range(self.count):
            yield self[index]

    def __repr__(self) -> str:
        tasks = f"{self.way}-way {self.shot}-shot, {self.query} queries a class, {self.count} x {self.tasks} tasks"
        return f"EpisodeStream({tasks}, seed {self.seed}, from {self.bank!r})"

    def _repr_html_(self) -> str:
        from innerloop.data.contact_sheet import as_html  # drawing is not needed to draw episodes

        return as_html(repr(self), None if self.bank.white is None else self.plot())

    def plot(self, index: int = 0) -> Image:
        """The first task of batch `index`: a class in each row, its support images and then its query images.

        Raises:
            ValueError: the items are no images.
        """
        from innerloop.data.contact_sheet import task_sheet

        return task_sheet(self.bank, self[index], self.shot)

    def at(self, index: Tensor) -> Episodes:
        """Batch `index`, given as a 0-dim int64 tensor on the bank's device, so that a captured graph can advance."""
        numbers = index * self.tasks + torch.arange(self.tasks, device=index.device)
        return sample(self.bank, self.way, self.shot, self.query, numbers, self.seed, self.divided)


@dataclass(frozen=True, eq=False, repr=False)
class LabelledStream:
    """Batches for ordinary classification over all of a bank's classes: one task, no support, the class as the label.

    Images are drawn with replacement and never turned. Batch i is a function of (seed, bank name, i) alone.

    Raises:
        ValueError: `images` is below 1, or `count` below 0.
    """

    bank: Bank
    images: int  # in one batch
    count: int = 1  # batches
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")
        if self.count < 0:
            raise ValueError(f"count must not be negative, got {self.count}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Episodes:
        if not 0 <= index < self.count:
            raise IndexError(f"batch {index} of a stream of {self.count}")
        return self.at(torch.full((), index, device=self.bank.items.device))  # waits for no GPU

    def __repr__(self) -> str:
        return f"LabelledStream({self.count} x {self.images} images, seed {self.seed}, from {self.bank!r})"

    def at(self, index: Tensor) -> Episodes:
        """Batch `index`, given as a 0-dim int64 tensor on the bank's device."""
        table = self.bank.table
        batch = numbered(key(f"{self.bank.name}:{self.seed}"), index.unsqueeze(0))
        y = keys(batch, 4, self.images) % len(table)  # (1, q)
        start, size = table[y].unbind(-1)
        items = self.bank.items.index_select(0, (start + keys(batch, 5, self.images) % size).flatten())
        x = self.bank.handed_out(items.unsqueeze(0))
        return Episodes(x[:, :0], y[:, :0], x, y)


def sample(
    bank: Bank, way: int, shot: int, query: int, numbers: Tensor, seed: int = 0, divided: Division | None = None
) -> Episodes:
    """The episodes with these numbers, (t,) int64 on the bank's device.

    Classes and items are drawn without replacement and a class gets its label by the order of the draw, so that
    label and class are independent. Items lie label after label. x: (t, s, ...) with s = w * k in the support and
    w * q in the query set; images (t, s, c, h, w) float32 in [0, 1]; y: (t, s) int64. Where items have subjects, none
    stands on both sides of a task; `divided` is what `division` found, looked for if not given.
    """
    tasks, device = len(numbers), bank.items.device
    episode = numbered(key(f"{bank.name}:{seed}"), numbers)  # (t,)

    picked = keys(episode, 1, len(bank)).topk(way, largest=False).indices  # (t, w), in random order
    within = keys(episode, 2, way)  # (t, w): one key for each class of the task
    start, size = bank.table[picked].unsqueeze(-2).unbind(-1)  # (t, w, 1) each
    order = keys(within, 3, max(bank.sizes))  # (t, w, largest class)
    order = order.masked_fill(torch.arange(order.shape[-1], device=device) >= size, LARGEST)
    if bank.subjects is None:
        drawn = order.topk(shot + query, largest=False).indices  # (t, w, k + q)
    else:
        divided = divided or division(bank, shot, query)
        side = support_side(bank, divided, picked, episode, shot, query)
        sides = (order.masked_fill(~side, LARGEST), shot), (order.masked_fill(side, LARGEST), query)
        drawn = torch.cat([each.topk(count, largest=False).indices for each, count in sides], -1)

    items = bank.items.index_select(0, (start + drawn).flatten())
    if bank.turns:
        quarter = (hashed(within) & 3).unsqueeze(-1).expand(drawn.shape).flatten()
        items = _turn(items, quarter)
    x = items.unflatten(0, (tasks, way, shot + query))
    labels = torch.arange(way, device=device)

    def part(items: Tensor) -> tuple[Tensor, Tensor]:
        count = items.shape[2]
        y = labels.repeat_interleave(count).expand(tasks, way * count)
        return bank.handed_out(items.flatten(1, 2).contiguous()), y

    return Episodes(*part(x[:, :, :shot]), *part(x[:, :, shot:]))


def as_floats(pixels: Tensor, white: float = 255) -> Tensor:
    """Pixels (..., h, w, c) as a network sees them: (..., c, h, w) float32, `white` is 1, one channel after another.

    In memory, too: networks that gain by another layout take care of it (`innerloop.kernels.channels.channels_last`).
    """
    floats = pixels.movedim(-1, -3).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return floats.mul_(1 / white)


def _turn(pixels: Tensor, quarter: Tensor) -> Tensor:
    """Turn each image (n, h, w, c) by its number of quarter turns (n,)."""
    if pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"only square images can be turned, got {tuple(pixels.shape[1:3])}; set turns=False")
    quarter = quarter.view(-1, 1, 1, 1)
    pixels = torch.where(quarter % 2 == 1, pixels.transpose(1, 2).flip(1), pixels)
    return torch.where(quarter >= 2, pixels.flip(1, 2), pixels)
