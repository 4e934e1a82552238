"""Where a run's images come from: a data set with a name, or a folder, split as it was when the run began."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from innerloop.data import NAMES, Splits, load
from innerloop.data.bank import Bank
from innerloop.data.files import listed
from innerloop.data.mini_imagenet import HUB
from innerloop.parallel.captured import Capture
from innerloop.runs.config import Spec
from innerloop.runs.load import Learner


@dataclass(frozen=True)
class How:
    """Where and how a run is computed; none of it changes what is learnt."""

    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""
    capture: Capture = "auto"
    """on a GPU, auto runs the whole training step as one CUDA graph; off starts its kernels one by one"""
    source: str | None = None
    """where omniglot or mini-imagenet lies: a folder; for mini-imagenet also hf://owner/name on Hugging Face. A run
    remembers it"""
    skip_bad: bool = False
    """leave damaged images and small classes of a folder out"""


def classes_of(data: Splits, spec: Spec) -> dict[str, list[str]]:
    """The classes of each part of a folder, which may change; those of a data set with a name do not."""
    return {} if spec.data in NAMES else {part: list(bank.classes) for part, bank in data._asdict().items()}


def open_data(
    spec: Spec, how: How, known: dict[str, list[str]] | None = None, *, channels: int | None = None
) -> Splits:
    """The three banks of a run, on the CPU; a folder is split as it was when its classes were `known`.

    Its images are made grey or RGB where `channels` asks for it; else they are grey if all of them are.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged or does not fit the settings, or what was trained on would be tested.
    """
    options: dict[str, Any] = {"size": spec.size}
    if spec.data not in NAMES:
        options["way"] = spec.way
    if spec.split:
        options["split"] = spec.split
    if how.source is not None:
        options["source"] = how.source
    if how.skip_bad:
        options["skip_bad"] = True
    if spec.data not in NAMES:
        options["known"] = known
    data = load(spec.data, **options)
    if spec.data not in NAMES and channels not in (None, data.train.shape[0]):
        data = load(spec.data, **options, grey=channels == 1)
    if known:
        _check_moved(spec, known, data)
    return data


def _check_moved(spec: Spec, known: dict[str, list[str]], data: Splits) -> None:
    trained, chosen_by = set(known["train"]), set(known["val"])
    moved = trained & {*data.val.classes, *data.test.classes} or chosen_by & set(data.test.classes)
    if moved:
        raise ValueError(
            f"{spec.data} has classes to validate or test that this run was trained or validated on: "
            f"{listed(sorted(moved))}. Put them back where they were, or train anew with another --out."
        )


def data_named(what: str) -> str:
    """A data set's name as it is, a folder's as its whole path."""
    return what if what in NAMES or not Path(what).expanduser().exists() else whole_path(what)


def whole_path(path: str) -> str:
    """The same wherever one is; unlike with `Path.resolve`, links stay links."""
    return os.path.abspath(Path(path).expanduser())


def bank_for(learner: Learner, asked: Spec, how: How, part: str) -> Bank:
    """The images of a part (train, val, test) of what `asked` names, on the CPU, as the network takes them.

    The data of its own run are looked for where the run found them, if `how` names no source.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged, was trained on, or has other shapes than the network takes.
    """
    own, known = asked.data == learner.spec.data, learner.metadata.get("classes") or {}
    if own:
        how = from_where_it_was(how, learner.metadata)
    data = open_data(asked, how, known if own else None, channels=learner.shape[0])
    bank: Bank = getattr(data, part)
    trained = set(known.get("train", ())) & set(bank.classes)
    if not own and asked.data not in NAMES and trained:
        warnings.warn(
            f"{len(trained)} of the {len(bank)} classes of {bank.name} are called as classes that this run was trained "
            f"on ({listed(sorted(trained))}): if they are, this is no test of new classes",
            stacklevel=2,
        )
    if bank.shape != learner.shape:
        raise ValueError(f"the network takes images of {learner.shape} (c, h, w), {bank.name} has {bank.shape}")
    return bank


def from_where_it_was(how: How, metadata: Mapping[str, Any]) -> How:
    """With the source that a checkpoint remembers, if none is given and it is still there."""
    source: str | None = metadata.get("source")
    there = source is not None and (source.startswith(HUB) or Path(source).exists())
    return replace(how, source=source) if how.source is None and there else how


def wherever_one_is(source: str | None) -> str | None:
    """A source as it can be found from any folder."""
    return source if source is None or source.startswith(HUB) else whole_path(source)
