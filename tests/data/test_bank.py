"""Any tensor with class labels is a bank: features, tables, sounds, images of 16 bits and of floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop.data.bank import Bank


def numbered(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Items of which each holds its number everywhere."""
    return torch.arange(60).view(60, *[1] * len(shape)).expand(60, *shape).to(dtype)


LABELS = [i % 3 for i in range(60)]


@pytest.mark.parametrize("shape", [(), (64,), (2, 100), (28, 28, 1), (3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8])
def test_items_come_out_as_they_are_with_the_labels_of_their_class(shape, dtype):
    bank = Bank.of(numbered(*shape, dtype=dtype), LABELS)
    assert (bank.sizes, bank.classes, bank.shape) == ((20, 20, 20), ("0", "1", "2"), shape)
    episodes = bank.episodes(way=2, shot=3, query=5, tasks=4, count=1)[0]
    assert episodes.support_x.shape == (4, 6, *shape)
    assert episodes.query_x.dtype == dtype
    for task in range(4):
        drawn = torch.cat([episodes.support_x[task], episodes.query_x[task]]).flatten(1).amax(1) if shape else None
        if drawn is None:
            drawn = torch.cat([episodes.support_x[task], episodes.query_x[task]])
        assert len(drawn.unique()) == 16
        y = torch.cat([episodes.support_y[task], episodes.query_y[task]])
        classes = [set((drawn[y == label] % 3).tolist()) for label in range(2)]
        assert [len(found) for found in classes] == [1, 1]
        assert classes[0] != classes[1]


def test_the_same_numbers_are_drawn_whatever_the_items_are():
    """Episodes are a function of seed, name and number: what is drawn does not hang on what it is."""
    images = Bank.of_images(numbered(4, 4, 1, dtype=torch.uint8), LABELS, name="x").episodes(2, 1, 3, count=5, seed=3)
    rows = Bank.of(numbered(dtype=torch.float64), LABELS, name="x").episodes(2, 1, 3, count=5, seed=3)
    for one, other in zip(images, rows, strict=True):
        assert ((one.query_x[..., 0, 0, 0] * 255).round() == other.query_x).all()
        assert torch.equal(one.query_y, other.query_y)


@pytest.mark.parametrize(
    ("images", "white"),
    [
        (torch.full((6, 4, 4, 3), 51, dtype=torch.uint8), None),
        (np.full((6, 4, 4, 3), 13107, np.uint16), 65535),
        (torch.full((6, 4, 4, 3), 819, dtype=torch.int32), 4095),
        (torch.full((6, 4, 4, 3), 0.2), None),
        (torch.full((6, 4, 4, 3), 0.2, dtype=torch.float64), None),
    ],
)
def test_images_of_any_kind_come_out_from_0_to_1_channels_first(images, white):
    bank = Bank.of_images(images, list("ababab"), white=white, turns=True)
    x = bank.episodes(2, 1, 2, count=1)[0].query_x
    assert (x.shape, x.dtype) == ((1, 4, 3, 4, 4), torch.float32)
    assert x.flatten(0, 1).is_contiguous()
    torch.testing.assert_close(x, torch.full_like(x, 0.2))
    assert bank.plot().mode == "RGB"


def test_any_order_and_kind_of_labels():
    items = torch.tensor([3.0, 1.0, 2.0, 10.0, 11.0])
    bank = Bank.of(items, ["b", "a", "a", "b", "b"], files=list("vwxyz"), subjects=[5, 6, 7, 8, 5])
    assert (bank.classes, bank.sizes) == (("a", "b"), (2, 3))
    assert [bank.of_class(i).tolist() for i in range(2)] == [[1.0, 2.0], [3.0, 10.0, 11.0]]
    assert bank.files == tuple("wxvyz")
    assert bank.subjects is not None
    assert bank.subjects.tolist() == [0, 1, 2, 3, 2]
    assert Bank.of(items, torch.tensor([10, 9, 9, 10, 10])).classes == ("9", "10"), "numbers in their order"
    assert Bank.of(items, np.array([1, 0, 0, 1, 1]), classes=["cat", "dog"]).classes == ("cat", "dog")


def test_what_is_no_bank_is_refused_in_one_line():
    for items, labels, more, message in [
        (torch.zeros(3), [0, 1], {}, r"expected one label an item; got items \(3,\) and 2 labels"),
        (torch.zeros(()), [0], {}, "expected one label an item"),
        (torch.zeros(0, 4), [], {}, "expected one label an item"),
        (torch.zeros(2), [0, 2], {"classes": ["a", "b"]}, "label 2 is no index of the 2 classes"),
        (torch.zeros(2), [0, 1], {"subjects": [1]}, "expected one subject an item, 2 in all; got 1"),
        (torch.zeros(2), [0, 1], {"turns": True}, "only square images can be turned"),
    ]:
        with pytest.raises(ValueError, match=message):
            Bank.of(items, labels, **more)
    with pytest.raises(ValueError, match=r"expected images \(n, h, w, c\), got \(2, 64\); other tensors go to Bank.of"):
        Bank.of_images(torch.zeros(2, 64), [0, 1])
    with pytest.raises(ValueError, match=r"torch.int32, of which white is not known: give it, such as white=65535"):
        Bank.of_images(torch.zeros(2, 4, 4, 1, dtype=torch.int32), [0, 1])


def test_banks_and_streams_are_shown_short_and_as_pictures():
    features = Bank.of(torch.zeros(6, 64), list("aabbcc"), name="table")
    assert repr(features) == "Bank('table': 3 classes, 6 items of 64, float32)"
    assert features._repr_html_() == "<p>Bank(&#x27;table&#x27;: 3 classes, 6 items of 64, float32)</p>"
    with pytest.raises(ValueError, match="holds no images to show"):
        features.plot()
    images = Bank.of_images(torch.zeros(6, 8, 8, 1), list("aabbcc"))
    stream = images.episodes(2, 1, 1, tasks=3, count=5)
    assert repr(stream) == (
        "EpisodeStream(2-way 1-shot, 1 queries a class, 5 x 3 tasks, seed 0, from "
        "Bank('images': 3 classes, 6 images of 8x8x1))"
    )
    for shown in (images, stream):
        assert "<img alt=" in shown._repr_html_()
        assert shown.plot().width > 100
    with pytest.raises(ValueError, match="holds no images to show"):
        features.episodes(2, 1, 1, count=1).plot()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_drawing_writes_nothing_into_the_bank(channels, dtype):
    images = (torch.rand(6, 4, 4, channels) * 9).to(dtype)
    before = images.clone()
    bank = Bank.of_images(images, list("aabbcc"), white=9)
    x = bank.handed_out(bank.of_class(1))
    bank.episodes(3, 1, 1, count=1)[0].support_x.mul_(0)
    x.mul_(0)
    assert torch.equal(bank.items, before)
