"""Table 6: ANIL is faster than MAML, in training and at inference.

No trained network: a few minutes of timing, on a machine that does nothing else.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

from innerloop.experiments.exhibits import Cell, Claim, Table
from innerloop.experiments.few_shot import Seconds, Timing
from innerloop.experiments.scale import Scale
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI1, MINI5, Regime, timed

ROWS: dict[str, tuple[Literal["training", "inference"], Regime]] = {
    "Training: MAML": ("training", "maml"),
    "Training: First Order MAML": ("training", "fomaml"),
    "Training: ANIL": ("training", "anil"),
    "Inference: MAML": ("inference", "maml"),
    "Inference: ANIL": ("inference", "anil"),
}
_SHOTS = {"5way-1shot": MINI1, "5way-5shot": MINI5}
COLUMNS = {f"{shot} {kind}": (shot, kind) for shot, kind in product(_SHOTS, ("mean (s)", "median (s)", "speedup"))}


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell | None:
    """Seconds, or how many times MAML's mean is this one's."""
    (what, regime), (shot, kind) = ROWS[row], COLUMNS[column]
    if repeat:
        return None
    own = Timing(timed(scale, _SHOTS[shot], regime), what, scale.counts["batches"])
    if kind != "speedup":
        return Cell((own,), lambda answer: getattr(answer, kind.split()[0]))
    maml = Timing(timed(scale, _SHOTS[shot], "maml"), what, scale.counts["batches"])
    return Cell((maml, own), _speedup)


def _speedup(maml: Seconds, own: Seconds) -> float:
    if maml.device != own.device:
        raise KeyError(f"{maml.device} and {own.device} do not compare")
    return maml.mean / own.mean


TABLE = Table(
    name="table6",
    title="Time of one training step and of one inference",
    about="The paper's networks and images, at small scale too. One task, one query image a class, images in memory: a "
    "training step is the adaptation in 5 steps and the meta-gradient, an inference the adaptation in "
    "10 steps and the prediction. The paper's numbers are of TensorFlow on a Titan Xp, so only the speedups compare.",
    rows=tuple(ROWS),
    columns=tuple(COLUMNS),
    published=grid(
        tuple(ROWS),
        tuple(COLUMNS),
        """
        0.15   0.13   1     0.68   0.67   1
        0.089  0.083  1.69  0.40   0.39   1.7
        0.084  0.072  1.79  0.37   0.36   1.84
        0.083  0.078  1     0.37   0.36   1
        0.020  0.017  4.15  0.076  0.071  4.87
        """,
    ),
    cell=cell,
    claims=(
        Claim(
            "ANIL offers noticeable speedup over MAML (Table 6).",
            "ANIL's training speedup is at least 1.5 in both columns (the paper has 1.79 and 1.84)",
            lambda mean: all(mean["Training: ANIL", f"{shot} speedup"] >= 1.5 for shot in _SHOTS),
        ),
        Claim(
            "During inference, ANIL achieves over a 4x speedup over MAML (Appendix C.5).",
            "ANIL's inference speedup is at least 4 in both columns",
            lambda mean: all(mean["Inference: ANIL", f"{shot} speedup"] >= 4 for shot in _SHOTS),
        ),
        Claim(
            "During training, ANIL is as fast as First Order MAML (Appendix C.5).",
            "ANIL's mean is at most 1.1 times that of first-order MAML, in both columns",
            lambda mean: all(
                1.1 * mean["Training: ANIL", f"{shot} speedup"] >= mean["Training: First Order MAML", f"{shot} speedup"]
                for shot in _SHOTS
            ),
        ),
    ),
    unit="",
    unscaled=True,
    digits=3,
    column_digits={column: 2 for column in COLUMNS if column.endswith("speedup")},
)
