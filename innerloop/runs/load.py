"""A trained network, read back from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
from torch import nn

from innerloop.runs.checkpoint import Checkpoint, load_checkpoint, load_weights
from innerloop.runs.config import Spec


class Learner(NamedTuple):
    """A network with the settings it was trained by."""

    model: nn.Sequential
    spec: Spec
    shape: tuple[int, int, int]  # (c, h, w) of the images it takes
    metadata: dict[str, Any]  # iteration, val_accuracy, statistics


class _Metadata(TypedDict):
    """What a network's checkpoint must say; it says more."""

    spec: dict[str, Any]
    shape: tuple[int, int, int]
    classes: NotRequired[dict[str, list[str]]]
    source: NotRequired[str | None]


def best_of(path: Path) -> Path:
    """The checkpoint of a run's folder that validation chose; a file stays as it is."""
    return path / "best.safetensors" if path.is_dir() else path


def load(path: Path | str) -> Learner:
    """A trained network, with its settings, from a run's folder, a checkpoint, or what a `FewShotClassifier` saved.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is cut off, of another network, or the wrong file.
    """
    folder = path = Path(path).expanduser()
    path = best_of(path)
    run = path.parent
    if not path.exists() and (run / "result.json").exists():
        raise FileNotFoundError(
            f"{run} is a finished run without its {path.name}: give its train command again, with another --out to "
            "begin anew, or with this one to go on from its last weights"
        )
    if not path.exists() and (folder / "last.safetensors").exists():
        raise FileNotFoundError(f"the run {folder} has not been validated yet: give its train command again to go on")
    return learner_from(load_checkpoint(path), path)


def learner_from(checkpoint: Checkpoint, path: Path) -> Learner:
    """The network in a checkpoint read from `path`, without a classifier's images; errors as in `load`."""
    tensors = {name: value for name, value in checkpoint.tensors.items() if not name.startswith("support.")}
    metadata = checkpoint.metadata
    if "spec" not in metadata or "shape" not in metadata:
        raise ValueError(f"{path} holds the state of a run, not a trained network; use best.safetensors beside it")
    try:
        known = msgspec.convert(metadata, _Metadata)
        spec, shape = Spec.from_json(known["spec"]), known["shape"]
    except ValueError as error:
        raise ValueError(f"{path} cannot be used ({error}): train again, or use the innerloop that wrote it") from error
    model = spec.build(shape, way=len(tensors["head.bias"]) if "head.bias" in tensors else None)
    load_weights(model, tensors, path)
    return Learner(model.eval(), spec, shape, metadata)
