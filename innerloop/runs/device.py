"""Where a run is computed: the device, its name, and how to get the same bits there each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from innerloop.cpu import cpu_name


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
