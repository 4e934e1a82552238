"""innerloop cache"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from innerloop.cli.errors import say

_DAY = 24 * 3600.0


@dataclass(frozen=True)
class Cache:
    """Decoded images and downloads that are kept: list them, or clear them; what is needed again is made again."""

    action: Positional[Literal["list", "clear"]]
    names: Positional[tuple[str, ...]] = ()
    """only those whose file names begin so; * stands for anything"""
    unused: float = 0.0
    """only those not opened for so many days"""

    def run(self) -> None:
        from innerloop.data.cache import cache_folder, kept

        folder = cache_folder()
        there = kept(folder) if folder.is_dir() else []
        found = [one for one in there if self._asked(one.path.name) and time.time() - one.used >= self.unused * _DAY]
        if self.action == "list":
            table = Table("file", "what", "MB", "last used")
            for one in found:
                used = time.strftime("%Y-%m-%d", time.localtime(one.used))
                table.add_row(one.path.name, one.what, f"{one.size / 1e6:.1f}", used)
            Console().print(table)
        else:
            for one in found:
                one.path.unlink(missing_ok=True)
        megabytes = sum(one.size for one in found) / 1e6
        say(f"{len(found)} files, {megabytes:,.1f} MB {'in' if self.action == 'list' else 'removed from'} {folder}")

    def _asked(self, name: str) -> bool:
        return not self.names or any(fnmatch(name, f"{pattern}*") for pattern in self.names)
