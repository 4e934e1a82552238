"""innerloop data"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional

from innerloop.cli.errors import say
from innerloop.data import NAMES, data_set
from innerloop.runs.config import FewShot
from innerloop.runs.presets import PRESETS
from innerloop.runs.sources import Source, open_data


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
    out: Path = Path("sheet.png")
    """where the sheet goes"""
    source: OmitArgPrefixes[Source] = field(default_factory=Source)

    def run(self) -> None:
        if self.action == "list":
            for name in NAMES:
                print(f"{name:15}", *(key for key in PRESETS if key.startswith(name)))
            print(f"{'your folder':15} one sub-folder of images a class")
            return
        if not self.what:
            raise ValueError(f"which data? Give one of {', '.join(NAMES)}, or a folder")
        size = data_set(self.what).size if self.size is None else self.size
        splits = open_data(FewShot(data=self.what, size=size, split=self.split, way=self.way), self.source)
        table = Table("part", "classes", "images", "images a class", "groups", "size")
        for name, bank in splits._asdict().items():
            sizes = bank.sizes
            spread = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
            shape = "x".join(map(str, bank.shape))
            table.add_row(name, str(len(bank)), str(sum(sizes)), spread, str(len(set(bank.groups))), shape)
        Console().print(table)
        if self.action == "sheet":
            from innerloop.data.contact_sheet import contact_sheet

            contact_sheet(getattr(splits, self.part)).save(self.out)
            say(f"wrote {self.out}")
