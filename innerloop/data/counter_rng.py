"""Random numbers that are a function of what they are for: a counter-based hash in integer arithmetic.

The batch size, the device and where a run was interrupted change nothing, since nothing is drawn in turn.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # the odd increment of SplitMix64 (Steele et al. 2014), as a signed 64-bit number
LARGEST = torch.iinfo(torch.int64).max


def key(text: str) -> int:
    """A number for a name, the same in every process."""
    return zlib.crc32(text.encode(errors="surrogateescape")) - 2**31  # a file name may be no text


def numbered(first: int | Tensor, numbers: Tensor) -> Tensor:
    """A random 64-bit number for each of these counters."""
    return hashed(first + numbers * _GOLDEN)


def keys(base: Tensor, purpose: int, count: int) -> Tensor:
    """`count` independent 63-bit random numbers for every key: base.shape + (count,)."""
    at = torch.arange(1, count + 1, device=base.device) * _GOLDEN
    return hashed(hashed(base + purpose).unsqueeze(-1) + at) & LARGEST


def hashed(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64, whose sums and products wrap alike on every device."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))
