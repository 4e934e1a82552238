"""What the command line says, and how errors become one line."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from typing import Any

_UNNAMED = re.compile(r"Error parsing (?!--)\S+: ")  # before what a settings' own check says


def unboxed(text: str) -> str:
    """What stands in a box of tyro's, drawn in Unicode or in ASCII, without its title."""
    rows = [row.strip(" │") for row in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    line = " ".join("." if set(row) <= {"─", "-"} else row for row in rows if row and row[0] not in "╭╰")
    line = line if "╭" in text else line.partition(" . ")[2]
    return re.sub(r"[.]? [.] ", ". ", _UNNAMED.sub("", line))


def explain(error: BaseException) -> str:
    """One line about what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        then = ". Make room and give the same command again: what was saved is whole." if full else ""
        return f"{error.strerror}{where}{then}"
    if _full_gpu(error):
        return "the GPU's memory is full; use fewer tasks at once: --chunk-size 1"
    if full_memory(error):
        return "the memory is full; use fewer tasks at once, --chunk-size 1, or smaller meta batches, --meta-batch 1"
    return " ".join(str(error).split())


def full_memory(error: BaseException) -> bool:
    """Whether the memory, of a GPU or of the machine, was too small."""
    return _full_gpu(error) or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _full_gpu(error: BaseException) -> bool:
    return "torch" in sys.modules and isinstance(error, sys.modules["torch"].OutOfMemoryError)


def percent(score: dict[str, Any]) -> str:
    """A score as people read it."""
    spread = "" if score["interval"] is None else f" ± {100 * score['interval']:.2f}"
    return f"{100 * score['accuracy']:.2f}{spread} %"


def again() -> str:
    """The command that was given."""
    return shlex.join(["innerloop", *sys.argv[1:]])


def say(line: str) -> None:
    """To stderr: stdout holds results alone; with --quiet only what went wrong."""
    if not os.environ.get("INNERLOOP_QUIET") or line.startswith(("innerloop: ", "warning: ")):
        print(line, file=sys.stderr, flush=True)
