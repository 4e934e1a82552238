"""innerloop data"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from innerloop.choices import did_you_mean
from innerloop.cli.errors import say
from innerloop.runs.presets import PRESETS

if TYPE_CHECKING:
    from innerloop.data import DataSet, Splits


@dataclass(frozen=True)
class Data:
    """Look at data sets: list them, prepare (download, decode, cache), check, or draw a contact sheet."""

    action: Positional[Literal["list", "prepare", "check", "sheet"]]
    what: Positional[str] = ""
    """glyphs, omniglot, mini-imagenet, or a folder with one sub-folder of images a class"""
    part: Literal["train", "val", "test"] = "test"
    """the classes on the sheet"""
    size: int | None = None
    """pixels a side; the data's usual if not given"""
    split: str = ""
    """of omniglot: reference or official; of a folder: a split file"""
    way: int = 5
    """classes of a task: a folder that is split for you has as many in each part, where there are enough"""
    shot: int = 5
    """support images a class, for check"""
    query: int = 5
    """query images a class, for check"""
    group_by: str = ""
    """of a folder, which images show the same (a patient, a film, a physical sign) and never stand on both sides of a
    task: a template for file names such as {group}_*, a regular expression with one group, or a csv table"""
    source: str | None = None
    """where omniglot or mini-imagenet lies: a folder; for mini-imagenet also hf://owner/name on Hugging Face"""
    skip_bad: bool = False
    """leave damaged images and small classes of a folder out"""
    out: Path = Path("sheet.png")
    """where the sheet goes"""

    def run(self) -> None:
        from innerloop.data import NAMES, data_set

        if self.action == "list":
            for name in NAMES:
                print(f"{name:15}", *(key for key in PRESETS if key.startswith(name)))
            print(f"{'your folder':15} one sub-folder of images a class")
            return
        if not self.what:
            raise ValueError(f"which data? Give one of {', '.join(NAMES)}, or a folder")
        data = data_set(self.what)
        if data.own and not Path(data.name).exists():
            near = did_you_mean(self.what, NAMES)
            raise ValueError(f"there is no data set and no folder {self.what!r}. There are {', '.join(NAMES)}.{near}")
        splits = data.open(
            size=self.size,
            split=self.split,
            source=self.source,
            skip_bad=self.skip_bad,
            way=self.way,
            group_by=self.group_by,
        )
        if self.action == "check":
            self._check(data, splits)
        Console().print(_table(splits))
        if self.action == "sheet":
            out = self.out.expanduser()
            getattr(splits, self.part).plot().save(out)
            say(f"wrote {out}")

    def _check(self, data: DataSet, splits: Splits) -> None:
        """Refuse what training refuses, and say what training would not notice."""
        from innerloop.data.subjects import sequences
        from innerloop.models import conv4

        conv4(self.way, channels=splits.train.shape[0], size=splits.train.shape[1])
        data.check(splits, self.way, self.shot, self.query)
        say(f"fits {self.way}-way tasks of {self.shot} shots and {self.query} queries a class")
        if data.own and not self.group_by and (film := sequences(splits.train.files)):
            apart = "keep them apart with --group-by, such as --group-by '{group}_*'"
            say(f"warning: files such as {film}... look like frames of one film, which would make tasks easy: {apart}")


def _table(splits: Splits) -> Table:
    grouped = splits.train.subjects is not None
    table = Table("part", "classes", "images", "images a class", "groups of images" if grouped else "groups", "size")
    for name, bank in splits._asdict().items():
        sizes = bank.sizes
        spread = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        shape = "x".join(map(str, bank.shape))
        groups = len(bank.subject_names()) if grouped else len(set(bank.groups))
        table.add_row(name, str(len(bank)), str(sum(sizes)), spread, str(groups), shape)
    return table
