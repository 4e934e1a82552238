"""Subjects (a patient, a film, a physical sign) kept apart: none stands in the support and in the query set of a task.

Each subject of a task gets a random number, and those up to a limit may stand in the support, the others in the query
set: about half of them each, or what leaves enough items on both sides. A subject with items in several classes stands
on one side in all of them.

Shapes: t tasks, w ways, n items of the largest class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from innerloop.data.counter_rng import LARGEST, hashed, numbered

if TYPE_CHECKING:
    from innerloop.data.bank import Bank

_TRIES = 4  # divisions drawn for a task before it takes the one that is known to do
_SEARCH = 500  # divisions looked at before none is said to exist


class Division(NamedTuple):
    """What is known of a bank's subjects when episodes are to be drawn from it."""

    known: Tensor  # (classes,) int64: the number of a division with enough items on both sides
    spans: bool  # whether a subject has items in several classes


def division(bank: Bank, shot: int, query: int) -> Division:
    """Look for a division of the subjects of each class that leaves `shot` items on one side and `query` on the other.

    Raises:
        ValueError: there is none for some classes, which are named.
    """
    device = bank.items.device
    every = torch.arange(len(bank), device=device)
    subjects, spans = _subjects(bank, every.unsqueeze(0)), _spans(bank)
    known, left = torch.zeros_like(every), every
    for number in range(_SEARCH):
        looked_at = every if spans else left
        ok, _ = _cut(torch.full((1, 1), number, device=device), subjects[:, looked_at], shot, query, spans)
        good = ok[0, :, 0].expand(len(looked_at))
        known[looked_at[good]] = number
        left = looked_at[~good]
        if not len(left):
            return Division(known, spans)
    raise ValueError(_too_few(bank, left.tolist(), shot, query, spans))


def support_side(bank: Bank, divided: Division, picked: Tensor, episode: Tensor, shot: int, query: int) -> Tensor:
    """Which items of the classes `picked` (t, w) may stand in the support of their task, (t, w, n) bool.

    `episode` (t,) are the random numbers of the episodes.
    """
    subjects = _subjects(bank, picked)
    _, side = _cut(divided.known[picked], subjects, shot, query, divided.spans)
    for attempt in range(_TRIES):
        drawn = hashed(episode + 6 + attempt).unsqueeze(-1)
        ok, other = _cut(drawn, subjects, shot, query, divided.spans)
        side = torch.where(ok, other, side)
    return side


def _subjects(bank: Bank, picked: Tensor) -> Tensor:
    """The subject of each item of these classes, (t, w, n); -1 where a class has no more items."""
    if bank.subjects is None:
        raise ValueError(f"{bank.name} has no subjects to keep apart")
    start, size = bank.table[picked].unsqueeze(-2).unbind(-1)
    at = torch.arange(max(bank.sizes), device=picked.device)
    return torch.where(at < size, bank.subjects[(start + at).clamp(max=len(bank.subjects) - 1)], -1)


def _spans(bank: Bank) -> bool:
    """Whether a subject has items in several classes."""
    subjects = _subjects(bank, torch.arange(len(bank), device=bank.items.device))
    each = [row[row >= 0].unique() for row in subjects]
    return sum(map(len, each)) > len(torch.cat(each).unique())


def _cut(number: Tensor, subjects: Tensor, shot: int, query: int, spans: bool) -> tuple[Tensor, Tensor]:
    """The division with these numbers (t, w): whether it does, (t, w or 1, 1), and the support's side, (t, w, n)."""
    order = numbered(number.unsqueeze(-1), subjects) & LARGEST
    order = order.masked_fill(subjects < 0, LARGEST)
    ranked, size = order.sort(-1).values, (subjects >= 0).sum(-1, keepdim=True)
    low = ranked[..., shot - 1 : shot]  # up to here the support has enough
    high = ranked.gather(-1, (size - query).clamp(min=0))  # from here on the query set has
    if spans:
        low, high = low.amax(1, keepdim=True), high.amin(1, keepdim=True)
    limit = torch.maximum(low, (high - 1).clamp(max=LARGEST // 2))
    return low < high, order <= limit


def _too_few(bank: Bank, classes: list[int], shot: int, query: int, spans: bool) -> str:
    if spans:
        return (
            f"{bank.name} has groups with images in several classes, and no division of them was found that leaves "
            f"each class {shot} images on one side and {query} on the other. Lower `shot` or `query`, or leave small "
            "classes out."
        )
    items = _subjects(bank, torch.tensor(classes, device=bank.items.device))
    counts = [len(row[row >= 0].unique()) for row in items]
    few = [f"{bank.classes[i]} ({count} groups)" for i, count in zip(classes, counts, strict=True)]
    return (
        f"{len(classes)} of the {len(bank)} classes of {bank.name} have too few groups to take {shot} shots and "
        f"{query} queries from different ones: {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. Lower `shot` or "
        "`query`, or leave these classes out."
    )
