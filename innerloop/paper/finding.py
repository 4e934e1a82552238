"""What the study found, in a sentence with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.paper.figure2 import KINDS
from innerloop.paper.scales import MINI

_REUSE, _RAPID = 3.0, 10.0  # points of accuracy that freezing the body may cost, and must cost
_CCA = next(iter(KINDS))


def finds(values: Mapping[str, Any]) -> str:
    """Reuse or rapid learning, on mini-ImageNet: by Tables 1, 2 and 4 and by Figure 2."""
    frozen, all_of_it = values["table1"], values["table4"]
    whole, rest = ([frozen[row, problem] for problem in MINI] for row in ("None", "1,2,3,4"))
    anil, nil = ([all_of_it[row, problem] for problem in MINI] for row in ("ANIL", "NIL"))
    lines = [values["figure2"][_CCA][problem].y for problem in MINI]
    body, heads = min(min(y[:-1]) for y in lines), [y[-1] for y in lines]
    return (
        f"{_word(max(a - b for a, b in zip(whole, rest, strict=True)), body)} On mini-ImageNet (5-way, 1-shot and "
        f"5-shot) MAML has {_both(whole)} %, with its whole body frozen in the inner loop of the test {_both(rest)} %; "
        f"ANIL (almost no inner loop), which never adapts the body, has {_both(anil)} %, and its features without head "
        f"and inner loop (NIL, no inner loop) {_both(nil)} %. In the inner loop the layers of the body keep a CCA "
        f"(similarity by canonical correlation analysis) of at least {body:.2f}, the head {heads[0]:.2f} and "
        f"{heads[1]:.2f}."
    )


def _word(cost: float, body: float) -> str:
    if cost <= _REUSE and body >= 0.9:
        return "Feature reuse."
    return "Rapid learning." if cost >= _RAPID else "Some of both."


def _both(pair: list[float]) -> str:
    return " and ".join(f"{value:.1f}" for value in pair)
