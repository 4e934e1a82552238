"""Images in one tensor, and few-shot episodes drawn from it.

Episode i is a function of (seed, bank name, i) and of nothing else: its random numbers come from a counter-based
hash in integer arithmetic, so the batch size, the device and where a run was interrupted change nothing.

Shapes: t tasks, w ways (classes of one task), k shots and q queries a class, n images, c channels, h x w pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from innerloop.data.counter_rng import LARGEST, hashed, key, keys, numbered
from innerloop.tasks import Episodes


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Classes of images in one uint8 tensor.

    Class i holds `images[starts[i] : starts[i] + sizes[i]]`, so choosing classes copies no pixel.
    Pixels come out of `sample` as float32 in [0, 1].
    """

    images: Tensor  # (n, h, w, c) uint8; on a CPU it may be memory-mapped
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]  # what a class belongs to (alphabet, script); the class itself where there is no more
    name: str = "images"
    turns: bool = False  # draw each class of an episode at 0, 90, 180 or 270 degrees, as MAML does on Omniglot
    table: Tensor = field(init=False, repr=False)  # (classes, 2): starts and sizes on the images' device

    def __post_init__(self) -> None:
        table = torch.tensor([self.starts, self.sizes], dtype=torch.int64).T.to(self.images.device)
        object.__setattr__(self, "table", table)

    @classmethod
    def stack(
        cls,
        images: Tensor,
        sizes: Sequence[int],
        classes: Sequence[str],
        groups: Sequence[str] | None = None,
        **more: Any,
    ) -> ImageBank:
        """A bank of `images` (n, h, w, c) that lie class after class, `sizes[i]` of them for `classes[i]`.

        Raises:
            ValueError: the images do not fit `sizes`, the lists differ in length, or two classes have one name.
        """
        groups = classes if groups is None else groups
        if not len(sizes) == len(classes) == len(groups):
            raise ValueError(
                f"expected one size, name and group a class; got {len(sizes)} sizes, {len(classes)} classes and "
                f"{len(groups)} groups"
            )
        if twice := [name for name, count in Counter(classes).items() if count > 1]:
            raise ValueError(f"{twice[0]!r} names several classes, which a split could then not keep apart; rename one")
        if images.dtype != torch.uint8 or images.ndim != 4 or sum(sizes) != len(images):
            raise ValueError(
                f"expected uint8 images (n, h, w, c) with n = {sum(sizes)}, the sum of `sizes`; "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        starts = (0, *accumulate(sizes))[:-1]
        return cls(images, starts, tuple(sizes), tuple(classes), tuple(groups), **more)

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        h, w, c = self.images.shape[1:]
        return f"ImageBank({self.name!r}: {len(self)} classes, {sum(self.sizes)} images of {h}x{w}x{c})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image as a network sees it."""
        h, w, c = self.images.shape[1:]
        return c, h, w

    def to(self, device: torch.device | str) -> ImageBank:
        """The same bank with its images on `device`."""
        return replace(self, images=self.images.to(device))

    def of_class(self, index: int) -> Tensor:
        """All images of one class, (size, h, w, c) uint8."""
        return self.images[self.starts[index] : self.starts[index] + self.sizes[index]]

    def choose(self, indices: Sequence[int], name: str) -> ImageBank:
        """The bank of these classes only; the pixels are shared."""
        return replace(
            self,
            starts=tuple(self.starts[i] for i in indices),
            sizes=tuple(self.sizes[i] for i in indices),
            classes=tuple(self.classes[i] for i in indices),
            groups=tuple(self.groups[i] for i in indices),
            name=name,
        )

    def split(self, *fractions: float, seed: int = 0, by: str = "class") -> tuple[ImageBank, ...]:
        """Disjoint banks: one for each fraction of the classes, and a last one with the rest.

        `by="group"` keeps the classes of one group (alphabet, script) on one side.

        Raises:
            ValueError: a part would be empty, or the fractions are not positive with a sum below 1.
        """
        if not fractions or min(fractions) <= 0 or sum(fractions) >= 1:
            raise ValueError(f"expected fractions above 0 with a sum below 1, got {fractions}; try split(0.7)")
        if by not in ("class", "group"):
            raise ValueError(f'by must be "class" or "group", got {by!r}')
        units = list(self.classes) if by == "class" else sorted(set(self.groups))
        order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed)).tolist()
        edges = [0, *(round(sum(fractions[: i + 1]) * len(units)) for i in range(len(fractions))), len(units)]
        banks = []
        for part, (a, b) in enumerate(pairwise(edges)):
            chosen = {units[i] for i in order[a:b]}
            of = self.classes if by == "class" else self.groups
            indices = [i for i, unit in enumerate(of) if unit in chosen]
            if not indices:
                raise ValueError(
                    f"part {part + 1} of {len(edges) - 1} of the split is empty: {self.name} has only {len(units)} "
                    f"{'classes' if by == 'class' else 'groups'}. Add classes or change the fractions {fractions}."
                )
            banks.append(self.choose(indices, f"{self.name}/{part + 1}"))
        return tuple(banks)

    def episodes(
        self, way: int, shot: int, query: int = 15, *, tasks: int = 1, count: int, seed: int = 0
    ) -> EpisodeStream:
        """`count` batches of `tasks` episodes each; see `EpisodeStream`."""
        return EpisodeStream(self, way, shot, query, tasks=tasks, count=count, seed=seed)


@dataclass(frozen=True)
class EpisodeStream:
    """A sequence of episode batches: iterate it, or index it, which costs the same wherever you start.

    Raises:
        ValueError: the bank has too few classes for `way`, or a class too few images for `shot + query`.
    """

    bank: ImageBank
    way: int
    shot: int  # support images a class
    query: int  # query images a class
    tasks: int = 1  # episodes in one batch
    count: int = 1  # batches
    seed: int = 0

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

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Episodes:
        if not 0 <= index < self.count:
            raise IndexError(f"batch {index} of a stream of {self.count}")
        return self.at(torch.full((), index, device=self.bank.images.device))  # waits for no GPU

    def __iter__(self) -> Iterator[Episodes]:
        for index in range(self.count):
            yield self[index]

    def at(self, index: Tensor) -> Episodes:
        """Batch `index`, given as a 0-dim int64 tensor on the bank's device, so that a captured graph can advance."""
        numbers = index * self.tasks + torch.arange(self.tasks, device=index.device)
        return sample(self.bank, self.way, self.shot, self.query, numbers, self.seed)


@dataclass(frozen=True, eq=False)
class LabelledStream:
    """Batches for ordinary classification over all of a bank's classes: one task, no support, the class as the label.

    Images are drawn with replacement and never turned. Batch i is a function of (seed, bank name, i) alone.

    Raises:
        ValueError: `images` is below 1, or `count` below 0.
    """

    bank: ImageBank
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
        return self.at(torch.full((), index, device=self.bank.images.device))  # waits for no GPU

    def at(self, index: Tensor) -> Episodes:
        """Batch `index`, given as a 0-dim int64 tensor on the bank's device."""
        table = self.bank.table
        batch = numbered(key(f"{self.bank.name}:{self.seed}"), index.unsqueeze(0))
        y = keys(batch, 4, self.images) % len(table)  # (1, q)
        start, size = table[y].unbind(-1)
        pixels = self.bank.images.index_select(0, (start + keys(batch, 5, self.images) % size).flatten())
        x = as_floats(pixels.unsqueeze(0))
        return Episodes(x[:, :0], y[:, :0], x, y)


def sample(bank: ImageBank, way: int, shot: int, query: int, numbers: Tensor, seed: int = 0) -> Episodes:
    """The episodes with these numbers, (t,) int64 on the bank's device.

    Classes and images are drawn without replacement and a class gets its label by the order of the draw, so that
    label and class are independent. Items lie label after label. x: (t, s, c, h, w) float32 in [0, 1] with s = w * k
    in the support and w * q in the query set; y: (t, s) int64.
    """
    tasks, device = len(numbers), bank.images.device
    episode = numbered(key(f"{bank.name}:{seed}"), numbers)  # (t,)

    picked = keys(episode, 1, len(bank)).topk(way, largest=False).indices  # (t, w), in random order
    within = keys(episode, 2, way)  # (t, w): one key for each class of the task
    start, size = bank.table[picked].unsqueeze(-2).unbind(-1)  # (t, w, 1) each
    items = keys(within, 3, max(bank.sizes))  # (t, w, largest class)
    missing = torch.arange(items.shape[-1], device=device) >= size
    drawn = items.masked_fill(missing, LARGEST).topk(shot + query, largest=False).indices  # (t, w, k + q)

    rows = (start + drawn).flatten()
    pixels = bank.images.index_select(0, rows)
    if bank.turns:
        quarter = (hashed(within) & 3).unsqueeze(-1).expand(drawn.shape).flatten()
        pixels = _turn(pixels, quarter)
    x = pixels.unflatten(0, (tasks, way, shot + query))
    labels = torch.arange(way, device=device)

    def part(items: Tensor) -> tuple[Tensor, Tensor]:
        count = items.shape[2]
        y = labels.repeat_interleave(count).expand(tasks, way * count)
        return as_floats(items.flatten(1, 2).contiguous()), y

    return Episodes(*part(x[:, :, :shot]), *part(x[:, :, shot:]))


def as_floats(pixels: Tensor) -> Tensor:
    """Pixels (..., h, w, c) uint8 as a network sees them: (..., c, h, w) float32 in [0, 1], one channel after another.

    In memory, too: networks that gain by another layout take care of it (`innerloop.kernels.channels.channels_last`).
    What has a floating point type already, as features have, stays as it is.
    """
    if pixels.is_floating_point():
        return pixels
    return pixels.movedim(-1, -3).contiguous().float() * (1 / 255)


def _turn(pixels: Tensor, quarter: Tensor) -> Tensor:
    """Turn each image (n, h, w, c) by its number of quarter turns (n,)."""
    if pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"only square images can be turned, got {tuple(pixels.shape[1:3])}; set turns=False")
    quarter = quarter.view(-1, 1, 1, 1)
    pixels = torch.where(quarter % 2 == 1, pixels.transpose(1, 2).flip(1), pixels)
    return torch.where(quarter >= 2, pixels.flip(1, 2), pixels)
