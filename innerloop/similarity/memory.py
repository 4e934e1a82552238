"""Whether a measure fits into memory, asked before: a process that takes too much is ended without a word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_fits(what: str, needed: int, device: torch.device, advice: str) -> None:
    """Refuse what needs more bytes than the device has.

    Raises:
        ValueError: it does not fit.
    """
    there = room(device)
    if needed > there:
        raise ValueError(f"{what} needs {_told(needed)} of memory, and there are {_told(there)}: {advice}")


def room(device: torch.device) -> int:
    """Bytes: all of the machine's, or fewer where a limit is set; on CUDA what is free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [sys.maxsize]
    if sys.platform != "win32":
        import resource

        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    if _CGROUP.exists() and (limit := _CGROUP.read_text().strip()).isdigit():
        limits.append(int(limit))
    return min(limits)


def _told(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
