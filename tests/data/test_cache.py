"""What is kept is what was decoded; what is damaged is made again."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from innerloop.data.bank import Bank
from innerloop.data.cache import cache_folder, cached, kept


def bank() -> Bank:
    return Bank.of_images(torch.randint(0, 256, (6, 4, 4, 1), dtype=torch.uint8), list("aabbcc"), files=list("123456"))


def test_every_field_is_kept():
    made = bank()
    for _ in range(2):
        again = cached("key", lambda: made)
        assert torch.equal(again.items, made.items)
        for field in ("sizes", "classes", "groups", "name", "white", "turns", "files"):
            assert getattr(again, field) == getattr(made, field)


@pytest.mark.parametrize(
    "about",
    [
        None,
        {"innerloop.bank": "{}"},
        {"innerloop.bank.2": "{"},
        {"innerloop.bank.2": "[]"},
        {"innerloop.bank.2": json.dumps({"sizes": 3, "classes": ["a"], "groups": ["a"]})},
        {"innerloop.bank.2": json.dumps({"sizes": [5], "classes": ["a"], "groups": ["a"]})},
        {"innerloop.bank.2": json.dumps({"sizes": [6], "classes": ["a"], "groups": ["a"], "colour": 1})},
    ],
)
def test_a_file_of_another_kind_is_made_again_with_a_warning(about):
    made = bank()
    cached("key", lambda: made)
    path = next(cache_folder().glob("*.safetensors"))
    save_file({"items": made.items}, path, about)
    assert len(kept(cache_folder())) == (about is not None)
    with pytest.warns(UserWarning, match="cannot be read .*; building it again"):
        assert torch.equal(cached("key", lambda: made).items, made.items)


def test_a_file_cut_off_is_made_again():
    made = bank()
    cached("key", lambda: made)
    path = next(cache_folder().glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-10])
    assert kept(cache_folder())[0].what == "damaged"
    with pytest.warns(UserWarning, match="building it again"):
        cached("key", lambda: made)


def test_the_name_of_a_file_is_short_and_plain():
    for name in ("x" * 300, "ü", "a/b", "a b"):
        cached(name, bank)
    names = [path.name for path in cache_folder().iterdir()]
    assert len(names) == 4
    assert all(name.isascii() and len(name) < 120 for name in names)
