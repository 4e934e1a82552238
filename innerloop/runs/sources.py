"""Where a run's images come from: a data set with a name, or a folder, split as it was when the run began."""

from __future__ import annotations

import warnings

from innerloop.data import Splits, data_set
from innerloop.data.bank import Bank
from innerloop.data.files import listed
from innerloop.runs.config import FewShot
from innerloop.runs.load import Learner
from innerloop.runs.means import Source


def open_data(
    problem: FewShot, source: Source, known: dict[str, list[str]] | None = None, *, channels: int | None = None
) -> Splits:
    """The three banks of a run, on the CPU; a folder is split as it was when its classes were `known`.

    Its images are made grey or RGB where `channels` asks for it; else they are grey if all of them are.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged or does not fit the settings, or what was trained on would be tested.
    """
    data = data_set(problem.data).open(
        size=problem.size,
        split=problem.split,
        source=source.source,
        skip_bad=source.skip_bad,
        way=problem.way,
        known=known,
        channels=channels,
        group_by=problem.group_by,
    )
    if known:
        _check_moved(problem, known, data)
    return data


def _check_moved(problem: FewShot, known: dict[str, list[str]], data: Splits) -> None:
    trained, chosen_by = set(known["train"]), set(known["val"])
    moved = trained & {*data.val.classes, *data.test.classes} or chosen_by & set(data.test.classes)
    if moved:
        raise ValueError(
            f"{problem.data} has classes to validate or test that this run was trained or validated on: "
            f"{listed(sorted(moved))}. Put them back where they were, or train anew with another --out."
        )


def classes_of(data: Splits, problem: FewShot) -> dict[str, list[str]]:
    """The classes of each part of a folder, which may change; those of a data set with a name do not."""
    own = data_set(problem.data).own
    return {part: list(bank.classes) for part, bank in data._asdict().items()} if own else {}


def bank_for(learner: Learner, asked: FewShot, source: Source, part: str) -> Bank:
    """The images of a part (train, val, test) of what `asked` names, on the CPU, as the network takes them.

    The data of its own run are looked for where the run found them, if no source is given.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged, was trained on, or has other shapes than the network takes.
    """
    own, known = asked.data == learner.spec.problem.data, learner.metadata.get("classes") or {}
    if own:
        source = source.or_where_it_was(learner.metadata)
    data = open_data(asked, source, known if own else None, channels=learner.shape[0])
    bank: Bank = getattr(data, part)
    trained = set(known.get("train", ())) & set(bank.classes)
    if not own and data_set(asked.data).own and trained:
        warnings.warn(
            f"{len(trained)} of the {len(bank)} classes of {bank.name} are called as classes that this run was trained "
            f"on ({listed(sorted(trained))}): if they are, this is no test of new classes",
            stacklevel=2,
        )
    if bank.shape != learner.shape:
        raise ValueError(f"the network takes images of {learner.shape} (c, h, w), {bank.name} has {bank.shape}")
    return bank
