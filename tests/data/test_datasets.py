"""Data sets of other libraries, made up here in their form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from innerloop.data import from_dataset


class Vision(list):
    """As torchvision has it: pairs, `targets`, `classes`."""

    classes = ("ant", "bee", "cat")

    @property
    def targets(self):
        return [label for _, label in self]


class Rows(list):
    """As Hugging Face has it: rows, and features that know the names."""

    features: dict


def pictures(sizes=((9, 7),), mode="RGB"):
    return [Image.new(mode, sizes[i % len(sizes)], i) for i in range(12)]


def test_torchvisions_pairs_keep_the_names_of_their_classes():
    dataset = Vision((image, i % 3) for i, image in enumerate(pictures()))
    bank = from_dataset(dataset)
    assert (bank.classes, bank.sizes, bank.shape, bank.white) == (("ant", "bee", "cat"), (4, 4, 4), (3, 7, 9), 255)
    assert bank.of_class(1)[:, 0, 0, 0].tolist() == [1, 4, 7, 10]
    assert from_dataset(Subset(dataset, list(range(6)))).classes == ("ant", "bee", "cat")
    assert from_dataset(dataset, size=4, name="x").shape == (3, 4, 4)
    grey = Vision((image, torch.tensor(i % 3)) for i, image in enumerate(pictures(mode="L")))
    assert from_dataset(grey).shape == (1, 7, 9)
    assert from_dataset(grey).episodes(2, 1, 1, count=1)[0].support_x.shape == (1, 2, 1, 7, 9)


def test_hugging_faces_rows():
    rows = Rows({"id": i, "img": image, "fine_label": 2 - i % 3} for i, image in enumerate(pictures()))
    rows.features = {"img": SimpleNamespace(), "fine_label": SimpleNamespace(names=["x", "y", "z"])}
    bank = from_dataset(rows, name="cifar")
    assert (bank.name, bank.classes) == ("cifar", ("x", "y", "z"))
    assert bank.of_class(0)[:, 0, 0, 0].tolist() == [2, 5, 8, 11]
    odd = Rows({"photo": image, "kind": "ab"[i % 2]} for i, image in enumerate(pictures()))
    odd.features = {}
    assert from_dataset(odd, image="photo", label="kind").classes == ("a", "b")
    with pytest.raises(ValueError, match=r"no column 'image' among photo, kind: say which it is with image="):
        from_dataset(odd)


def test_tensors_and_arrays_stay_as_they_are():
    bank = from_dataset(TensorDataset(torch.randn(12, 5), torch.arange(12) % 4))
    assert (bank.white, bank.shape, bank.name) == (None, (5,), "tensordataset")
    sounds = [(np.full((2, 50), i, np.float32), "ab"[i % 2]) for i in range(6)]
    assert from_dataset(sounds, subjects=[0, 1, 2, 3, 4, 5]).subjects is not None
    assert from_dataset(sounds).episodes(2, 1, 2, count=1)[0].query_x.shape == (1, 4, 2, 50)


def test_what_is_no_data_set_is_refused_in_one_line():
    for dataset, message in [
        (iter([]), "expected a data set with a length and an index, got list_iterator; make it a list"),
        ([], "the data set is empty"),
        ([(1, 2, 3)], r"expected pairs \(item, label\) or rows"),
        ([(torch.zeros(2), 0.5)], "expected a class as the label, a number or text, got float"),
        ([(torch.zeros(2), 0), (torch.zeros(3), 1)], r"different shapes, such as \[\(2,\), \(3,\)\]"),
        (list(zip(pictures(((9, 7), (5, 5))), [0, 1] * 6, strict=True)), "the images have 2 sizes.*give size="),
    ]:
        with pytest.raises(ValueError, match=message):
            from_dataset(dataset)
