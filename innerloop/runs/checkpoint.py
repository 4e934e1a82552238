"""Tensors and what is known about them in one safetensors file, written so that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

_KEY, _SUM = "innerloop.runs.checkpoint", "innerloop.runs.checksum"
_ADVICE = {  # by the name that a run gives a checkpoint; tests do what each says, and nothing is lost
    "last.safetensors": "Delete it, and the same train command begins anew; what the run had found is kept beside it, "
    "in earlier-1. Or use best.safetensors, which is another file.",
    "best.safetensors": "Delete it, and give the run's train command again: it goes on, and the next validation "
    "writes another.",
}


class Checkpoint(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]  # on the CPU
    metadata: dict[str, Any]  # anything JSON can hold


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place at once: a reader, or a power cut, sees the old one or the new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):  # it may never have been there
            partial.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file
        raise


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON, atomically.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older checkpoint at `path` stays as it is.
    """
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(metadata)
    write_whole(path, save(on_cpu, {_KEY: text, _SUM: _checksum(on_cpu, text)}))


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Of names, kinds, shapes and bytes of the tensors, and of what is said about them."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, be it by one bit, or no checkpoint of innerloop.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; a run's folder holds best.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            text, wanted = said[_KEY], said[_SUM]
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = json.loads(text)
    except (SafetensorError, KeyError, ValueError) as error:  # ValueError: of JSON, or of text
        raise _damaged(path, f"cut off or not a checkpoint of innerloop ({type(error).__name__}: {error})") from error
    if _checksum(tensors, text) != wanted:
        raise _damaged(path, "damaged: its checksum is another one")
    return Checkpoint(tensors, metadata)


def _damaged(path: Path, how: str) -> ValueError:
    advice = _ADVICE.get(path.name, "Use another checkpoint of the run, or train again.")
    return ValueError(f"{path} is {how}. {advice}")


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put a checkpoint's tensors into a model.

    Raises:
        ValueError: they belong to another network.
    """
    own = model.state_dict()
    wrong = [name for name in own if name not in tensors or tensors[name].shape != own[name].shape]
    wrong += [name for name in tensors if name not in own]
    if wrong:
        name = wrong[0]
        there = tuple(tensors[name].shape) if name in tensors else "missing"
        here = tuple(own[name].shape) if name in own else "not a parameter"
        raise ValueError(
            f"{path} belongs to another network: {len(wrong)} of its tensors do not fit, first {name!r} "
            f"({there} in the file, {here} in the model). Load it into the network it was trained with."
        )
    model.load_state_dict(dict(tensors))


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's per-parameter state as named tensors; its settings are the run's."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, part in state.items() for key, value in part.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `pack_optimizer` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
