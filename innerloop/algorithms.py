"""The algorithms, as values: each function returns an `InnerLoop`; `options` are its other fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from innerloop.inner import InnerLoop


def maml(steps: int = 5, lr: float = 0.01, **options: Any) -> InnerLoop:
    """Every parameter adapts, with second-order meta-gradients (Finn et al. 2017)."""
    return InnerLoop(("*",), steps, lr, **options)


def fomaml(steps: int = 5, lr: float = 0.01, **options: Any) -> InnerLoop:
    """First-order MAML: the inner gradients count as constants in the meta-gradient (Finn et al. 2017, section 5.2)."""
    return InnerLoop(("*",), steps, lr, first_order=True, **options)


def anil(steps: int = 5, lr: float = 0.01, head: str = "head", **options: Any) -> InnerLoop:
    """Almost No Inner Loop: only the head adapts (Raghu et al. 2020, section 4)."""
    return InnerLoop((f"{head}.*",), steps, lr, **options)


def boil(steps: int = 5, lr: float = 0.01, head: str = "head", **options: Any) -> InnerLoop:
    """Body Only update in Inner Loop: all but the head adapts (Oh et al. 2021)."""
    return InnerLoop(("*", f"!{head}.*"), steps, lr, **options)


def freeze(rule: InnerLoop, *layers: str) -> InnerLoop:
    """The same rule with these layers frozen in the inner loop (Raghu et al. 2020, section 3.2.1)."""
    return replace(rule, adapt=(*rule.adapt, *(f"!{layer}.*" for layer in layers)))
