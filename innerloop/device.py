"""The device: picking it, its name, and settings that make a CPU about twice as fast (never set by an import)."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one.

    Raises:
        ValueError: it is not there, or of a kind that nothing here was written for.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"no device {name!r} here; use --device cpu, cuda, or cuda:N for one of several")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {name!r} here ({str(error).splitlines()[0]}); use --device cpu") from error
    return device


def device_name(device: torch.device) -> str:
    """What a report calls this device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{cpu_name()} CPU, {count} thread{'s' if count > 1 else ''}"


@contextmanager
def repeatable() -> Iterator[None]:
    """Inside, cuDNN takes kernels that give the same bits every time; elsewhere than on CUDA it changes nothing."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
