"""innerloop data"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional

from innerloop.cli.errors import say
from innerloop.data import NAMES
from innerloop.runs.config import Spec
from innerloop.runs.presets import PRESETS
from innerloop.runs.sources import How, open_data


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
    how: OmitArgPrefixes[How] = field(default_factory=How)

    def run(self) -> None:
        if self.action == "list":
            for name in NAMES:
                print(f"{name:15}", *(key for key in PRESETS if key.startswith(name)))
            print(f"{'your folder':15} one sub-folder of images a class")
            return
        if not self.what:
            raise ValueError(f"which data? Give one of {', '.join(NAMES)}, or a folder")
        usual = 28 if self.what in ("glyphs", "omniglot") else 84
        asked = Spec(data=self.what, way=self.way, size=self.size or usual, split=self.split)
        splits = open_data(asked, self.how)
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
