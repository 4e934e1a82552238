"""Classes of items in one tensor: images, features, rows of a table, sounds.

Shapes: n items, c channels, h x w pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from innerloop.data.episodes import EpisodeStream, as_floats

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = {torch.uint8: 255.0, torch.float16: 1.0, torch.bfloat16: 1.0, torch.float32: 1.0, torch.float64: 1.0}


@dataclass(frozen=True, eq=False, repr=False)
class Bank:
    """Classes of items in one tensor, from which episodes are drawn.

    Class i holds `items[starts[i] : starts[i] + sizes[i]]`, so choosing classes copies nothing. Images have a `white`
    and come out as float32 in [0, 1], channels first; anything else comes out as it is.
    """

    items: Tensor  # (n, ...), images (n, h, w, c); on a CPU it may be memory-mapped
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]  # what a class belongs to (alphabet, script); the class itself where there is no more
    name: str = "images"
    white: float | None = None  # the value of white in images; None: the items are no images
    turns: bool = False  # draw each class of an episode at 0, 90, 180 or 270 degrees, as MAML does on Omniglot
    subjects: Tensor | None = None  # (n,) int64: who or what an item shows; no subject stands on both sides of a task
    files: tuple[str, ...] = ()  # where each item is from
    table: Tensor = field(init=False)  # (classes, 2): starts and sizes on the items' device

    def __post_init__(self) -> None:
        table = torch.tensor([self.starts, self.sizes], dtype=torch.int64).T.to(self.items.device)
        object.__setattr__(self, "table", table)

    @classmethod
    def of(cls, items: Any, labels: Sequence[Any] | Tensor, *, classes: Sequence[str] = (), **more: Any) -> Bank:
        """A bank of any tensor or array (n, ...) and the class label of each item, in any order.

        Items come out of it as they are. A class is called as its label; with `classes`, label i as `classes[i]`.

            >>> import torch, innerloop
            >>> features, labels = torch.randn(60, 64), torch.arange(60) % 3
            >>> bank = innerloop.Bank.of(features, labels)
            >>> bank.episodes(way=2, shot=1, query=5, count=1)[0].support_x.shape
            torch.Size([1, 2, 64])

        Raises:
            ValueError: there is not one label an item, or a label is no index of `classes`.
        """
        items = torch.as_tensor(items)
        named: list[Any] = [label.item() if hasattr(label, "item") else label for label in labels]
        if items.ndim == 0 or len(items) != len(named) or not named:
            raise ValueError(f"expected one label an item; got items {tuple(items.shape)} and {len(named)} labels")
        if classes and (wrong := [x for x in named if not isinstance(x, int) or not 0 <= x < len(classes)]):
            raise ValueError(f"label {wrong[0]!r} is no index of the {len(classes)} classes; give one from 0 on")
        if items.dtype == torch.uint16:  # which torch can hardly compute with
            items = items.to(torch.int32)
        found = sorted(set(named), key=lambda label: (type(label).__name__, label))
        at = {label: i for i, label in enumerate(found)}
        codes = np.array([at[label] for label in named])
        order = np.argsort(codes, kind="stable")
        if (order[1:] < order[:-1]).any():
            items = items[torch.from_numpy(order).to(items.device)]
            for key in more.keys() & {"subjects", "files"}:
                more[key] = [more[key][i] for i in order]
        sizes = np.bincount(codes).tolist()
        return cls.stack(items, sizes, [str(classes[x] if classes else x) for x in found], **more)

    @classmethod
    def of_images(cls, images: Any, labels: Sequence[Any] | Tensor, *, white: float | None = None, **more: Any) -> Bank:
        """A bank of images (n, h, w, c), of 8 or 16 bits or floats, and the class label of each.

        They come out as float32 (c, h, w) in which `white` is 1: 255 for 8 bits and 1 for floats, if not given.

            >>> import torch, innerloop
            >>> images, labels = torch.randint(0, 4096, (60, 28, 28, 1)), ["cat", "dog", "emu"] * 20
            >>> innerloop.Bank.of_images(images, labels, white=4095)
            Bank('images': 3 classes, 60 images of 28x28x1)

        Raises:
            ValueError: as for `of`; the shape is another one, or white is not known.
        """
        images = torch.as_tensor(images)
        if images.ndim != 4:
            raise ValueError(f"expected images (n, h, w, c), got {tuple(images.shape)}; other tensors go to Bank.of")
        if white is None and (white := _WHITE.get(images.dtype)) is None:
            raise ValueError(f"images of {images.dtype}, of which white is not known: give it, such as white=65535")
        return cls.of(images, labels, white=white, **more)

    @classmethod
    def stack(
        cls,
        items: Tensor,
        sizes: Sequence[int],
        classes: Sequence[str],
        groups: Sequence[str] | None = None,
        **more: Any,
    ) -> Bank:
        """A bank of `items` (n, ...) that lie class after class, `sizes[i]` of them for `classes[i]`.

        `more` are the bank's other fields. Uint8 images (n, h, w, c) are white=255.

        Raises:
            ValueError: the items do not fit `sizes`, the lists differ in length, or two classes have one name.
        """
        groups = classes if groups is None else groups
        if not len(sizes) == len(classes) == len(groups):
            raise ValueError(
                f"expected one size, name and group a class; got {len(sizes)} sizes, {len(classes)} classes and "
                f"{len(groups)} groups"
            )
        if twice := [name for name, count in Counter(classes).items() if count > 1]:
            raise ValueError(f"{twice[0]!r} names several classes, which a split could then not keep apart; rename one")
        kind = "items (n, ...)" if more.get("white") is None else "images (n, h, w, c)"
        if items.ndim < 1 or sum(sizes) != len(items) or (more.get("white") is not None and items.ndim != 4):
            raise ValueError(
                f"expected {kind} with n = {sum(sizes)}, the sum of `sizes`; got {items.dtype} {tuple(items.shape)}"
            )
        if more.get("turns") and (more.get("white") is None or items.shape[1] != items.shape[2]):
            raise ValueError(f"only square images can be turned, got {kind} {tuple(items.shape)}; set turns=False")
        if more.get("subjects") is not None:
            more["subjects"] = _numbered(more["subjects"], len(items)).to(items.device)
        if more.get("files"):
            more["files"] = tuple(more["files"])
        if more.get("white") is None:
            more = {"name": "items"} | more
        starts = (0, *accumulate(sizes))[:-1]
        return cls(items, starts, tuple(sizes), tuple(classes), tuple(groups), **more)

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        what = "items" if self.white is None else "images"
        shape = "x".join(map(str, self.items.shape[1:])) or "one number"
        kind = "" if self.white is not None else f", {str(self.items.dtype).removeprefix('torch.')}"
        return f"Bank({self.name!r}: {len(self)} classes, {sum(self.sizes)} {what} of {shape}{kind})"

    def _repr_html_(self) -> str:
        from innerloop.data.contact_sheet import as_html  # drawing is not needed to draw episodes

        return as_html(repr(self), None if self.white is None else self.plot(rows=4, columns=10))

    def plot(self, *, rows: int = 12, columns: int = 12, seed: int = 0) -> Image:
        """A contact sheet: some classes, one a row, and some images of each.

        Raises:
            ValueError: the items are no images.
        """
        from innerloop.data.contact_sheet import contact_sheet

        return contact_sheet(self, rows=rows, columns=columns, seed=seed)

    @property
    def shape(self) -> Any:  # a tuple of int, for images always three
        """The shape of one item as a network sees it; of an image (c, h, w)."""
        shape = tuple(self.items.shape[1:])
        return shape if self.white is None else (shape[2], shape[0], shape[1])

    def to(self, device: torch.device | str) -> Bank:
        """The same bank with its items on `device`."""
        subjects = None if self.subjects is None else self.subjects.to(device)
        return replace(self, items=self.items.to(device), subjects=subjects)

    def of_class(self, index: int) -> Tensor:
        """All items of one class, (size, ...), as they are stored."""
        return self.items[self.starts[index] : self.starts[index] + self.sizes[index]]

    def handed_out(self, items: Tensor) -> Tensor:
        """Stored items (..., h, w, c) as a network sees them: images (..., c, h, w) float32 with white at 1."""
        return items if self.white is None else as_floats(items, self.white)

    def with_subjects(self, subjects: Sequence[Any] | Tensor) -> Bank:
        """The same bank, in which item i shows `subjects[i]` (a patient, a film): none stands on both sides of a task.

        Raises:
            ValueError: there is not one for each item.
        """
        return replace(self, subjects=_numbered(subjects, len(self.items)).to(self.items.device))

    def subject_names(self) -> set[int]:
        """The numbers of the subjects that its items show; none where they are not known."""
        if self.subjects is None:
            return set()
        return {int(x) for a, n in zip(self.starts, self.sizes, strict=True) for x in self.subjects[a : a + n].unique()}

    def choose(self, indices: Sequence[int], name: str) -> Bank:
        """The bank of these classes only; the items are shared."""
        return replace(
            self,
            starts=tuple(self.starts[i] for i in indices),
            sizes=tuple(self.sizes[i] for i in indices),
            classes=tuple(self.classes[i] for i in indices),
            groups=tuple(self.groups[i] for i in indices),
            name=name,
        )

    def split(self, *fractions: float, seed: int = 0, by: str = "class") -> tuple[Bank, ...]:
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


def _numbered(subjects: Any, count: int) -> Tensor:
    """One number for each different subject, (n,) int64."""
    named = subjects.tolist() if isinstance(subjects, Tensor | np.ndarray) else list(subjects)
    if len(named) != count:
        raise ValueError(f"expected one subject an item, {count} in all; got {len(named)}")
    numbers = {subject: i for i, subject in enumerate(dict.fromkeys(named))}
    return torch.tensor([numbers[subject] for subject in named])
