"""No subject (a patient, a film, a physical sign) stands on both sides of a task."""

from __future__ import annotations

import pytest
import torch

from innerloop.data.bank import Bank
from innerloop.data.episodes import sample


def bank_of(*classes: list[int], spans: bool = False) -> Bank:
    """A bank whose item is (class, subject): class i has `classes[i][j]` items of its subject j."""
    rows = [
        (i, j if spans else 100 * i + j)
        for i, counts in enumerate(classes)
        for j, n in enumerate(counts)
        for _ in range(n)
    ]
    return Bank.of(torch.tensor(rows), [row[0] for row in rows], subjects=[row[1] for row in rows])


def drawn(bank: Bank, way: int, shot: int, query: int, tasks: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    episodes = sample(bank, way, shot, query, torch.arange(tasks))
    return episodes.support_x, episodes.query_x


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize(
    ("classes", "shot", "query"),
    [
        ([[1] * 30] * 4, 5, 15),
        ([[12] * 5, [3] * 20, [30, 30], [20, 1, 1, 1, 1, 1, 1]], 1, 5),
        ([[12] * 5] * 3, 5, 15),
        ([[4, 4, 4, 4, 4]] * 3, 4, 16),
        ([[3, 3, 3, 1], [5, 5]], 1, 5),
    ],
)
def test_support_and_query_of_a_class_share_no_subject(classes, shot, query, spans):
    bank = bank_of(*classes, spans=spans)
    support, queries = drawn(bank, 2, shot, query)
    for task in range(len(support)):
        left, right = (set(map(tuple, x[task].tolist())) for x in (support, queries))
        assert not {s for _, s in left} & {s for _, s in right} if spans else not left & right
        assert len({c for c, _ in left}) == 2


def test_a_division_that_hardly_exists_is_found():
    """One item of support and nine of query: only the subject with one item can be the support's."""
    support, queries = drawn(bank_of([3, 3, 3, 1], [1, 9]), 2, 1, 9)
    assert set(map(tuple, support.flatten(0, 1).tolist())) == {(0, 3), (1, 100)}
    assert queries.shape == (200, 18, 2)


def test_subjects_are_drawn_for_either_side_alike():
    support, queries = drawn(bank_of(*[[4] * 10] * 3), 2, 2, 6, tasks=2000)
    for x in (support, queries):
        counts = (x[..., 1] % 100).flatten().bincount(minlength=10).float()
        assert (counts / counts.mean() - 1).abs().max() < 0.1


def test_items_of_one_bank_are_drawn_as_before_where_there_are_no_subjects():
    plain = Bank.of(torch.arange(60), [i % 3 for i in range(60)])
    assert (
        sample(plain, 2, 1, 1, torch.arange(1)).support_x.tolist()
        == sample(plain, 2, 1, 1, torch.arange(4)).support_x[:1].tolist()
    )


def test_an_episode_depends_on_seed_name_and_number_only():
    bank = bank_of(*[[4] * 10] * 5)
    whole = sample(bank, 3, 2, 6, torch.arange(12))
    stream = bank.episodes(3, 2, 6, tasks=4, count=3)
    for i, batch in enumerate(stream):
        assert all(torch.equal(a, b[4 * i : 4 * i + 4]) for a, b in zip(batch, whole, strict=True))


def test_too_few_groups_are_named():
    with pytest.raises(ValueError, match=r"2 of the 3 classes of items have too few groups .*: 0 \(1 groups\), 2 \(2"):
        bank_of([20], [5] * 4, [19, 1]).episodes(2, 5, 5, count=1)
    with pytest.raises(ValueError, match="no division of them was found"):
        bank_of([20, 1], [1, 20], spans=True).episodes(2, 5, 5, count=1)
    with pytest.raises(ValueError, match="fewer than the 10 images"):
        bank_of([2, 2], [5, 5]).episodes(2, 5, 5, count=1)


def test_a_choice_of_classes_keeps_its_subjects():
    bank = bank_of([5, 5], [20], [6, 6], [9, 9]).choose([0, 2, 3], "chosen")
    support, queries = drawn(bank, 3, 2, 5)
    assert set(support[..., 0].unique().tolist()) == {0, 2, 3}
    assert not any(set(a.tolist()) & set(b.tolist()) for a, b in zip(support[..., 1], queries[..., 1], strict=True))
