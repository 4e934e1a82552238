from __future__ import annotations

import errno
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from innerloop.runs.checkpoint import (
    load_checkpoint,
    load_weights,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
    write_whole,
)

TENSORS = {
    "weight": torch.arange(6.0).view(2, 3),
    "count": torch.tensor(7),
    "bytes": torch.arange(4, dtype=torch.uint8),
    "slow": torch.rand(3, 2, dtype=torch.float64).T,  # not contiguous
    "odd": torch.tensor([torch.nan, torch.inf, -0.0]),
}
ABOUT = {"iteration": 3, "best": 0.1, "names": ["a", "b"], "deep": {"none": None}}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", TENSORS, ABOUT)
    return tmp_path / "a.safetensors"


def test_what_is_saved_comes_back(path):
    tensors, metadata = load_checkpoint(path)
    assert metadata == ABOUT
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert tensors[name].shape == value.shape
        assert tensors[name].numpy().tobytes() == value.contiguous().numpy().tobytes()


def test_what_is_loaded_does_not_hang_on_the_file(path):
    tensors, _ = load_checkpoint(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(tensors["weight"], TENSORS["weight"])


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(step, path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open" if step == "open" else f"os.{step}", full)
        with pytest.raises(OSError, match="No space left") as caught:
            save_checkpoint(path, {"weight": torch.zeros(1)}, {})
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_complete_and_on_disk_before_it_has_its_name(path, monkeypatch):
    order, real = [], {"fsync": os.fsync, "replace": os.replace}
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(os.fstat(number).st_size), real["fsync"](number))[0])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("named"), real["replace"](a, b))[0])
    write_whole(path, b"12345")
    assert order == [5, "named"]
    assert path.read_bytes() == b"12345"


def test_write_whole_makes_the_folder(tmp_path):
    write_whole(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is cut off or not a checkpoint of innerloop"):
            load_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of innerloop"):
        load_checkpoint(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of innerloop"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (nn.Linear(3, 5), r"2 of its tensors do not fit, first 'weight' \(\(5, 3\) in the file, \(4, 3\) in the model"),
        (nn.Linear(3, 4, bias=False), r"1 of its tensors do not fit, first 'bias' \(missing in the file"),
        (nn.Bilinear(4, 3, 3), r"first 'weight'"),
        (nn.Sequential(nn.Linear(3, 4)), r"4 of its tensors do not fit"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(other, said, tmp_path):
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=said) as caught:
        load_weights(model, other.state_dict(), tmp_path / "x")
    assert f"{tmp_path / 'x'} belongs to another network" in str(caught.value)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)])
def test_an_optimizer_goes_on_in_the_same_bits(make, tmp_path):
    def model_and_optimizer():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        return model, make(model.parameters())

    def steps(model, optimizer, numbers):
        for number in numbers:
            optimizer.zero_grad()
            model(torch.full((1, 3), number / 7)).square().sum().backward()
            optimizer.step()

    one, its = model_and_optimizer()
    steps(one, its, range(6))

    first, before = model_and_optimizer()
    steps(first, before, range(3))
    tensors = {f"model.{k}": v for k, v in first.state_dict().items()} | pack_optimizer(before)
    save_checkpoint(tmp_path / "x", tensors, {})
    tensors = load_checkpoint(tmp_path / "x").tensors
    second, after = model_and_optimizer()
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    load_weights(second, weights, tmp_path / "x")
    unpack_optimizer(after, {k: v for k, v in tensors.items() if not k.startswith("model.")})
    steps(second, after, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), second.parameters(), strict=True))
