"""The CPU: its name, and settings that make training on it about twice as fast, never a side effect of the import."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from pathlib import Path

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


def tune_cpu() -> None:
    """Call once where a run starts: keep freed memory in the process, and flush denormals to zero.

    By default glibc returns every large tensor to the kernel and pays for its page faults again at the next step.
    With these settings it keeps them, so the process holds its peak memory until it ends. Does nothing harmful
    elsewhere: on other C libraries only denormals are set.
    """
    torch.set_flush_denormal(True)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def cpu_name() -> str:
    """What a result calls this CPU."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
