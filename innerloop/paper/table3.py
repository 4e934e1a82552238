"""Table 3: networks of MAML and of ANIL are as alike as two networks of either.

The trainings of Table 2 on mini-ImageNet 5-way 1-shot, at least two seeds.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Cell, Claim, Table
from innerloop.experiments.panel import BODY
from innerloop.experiments.scale import Scale
from innerloop.paper.pairs import likeness, pair
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI1, Regime

ROWS: dict[str, tuple[Regime, Regime]] = {
    "MAML-MAML": ("maml", "maml"),
    "ANIL-ANIL": ("anil", "anil"),
    "ANIL-MAML": ("anil", "maml"),
}
COLUMNS = {"CCA Similarity": "cca", "CKA Similarity": "cka"}


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell | None:
    """Two networks of different seeds, compared before adaptation, averaged over the body."""
    question = pair(scale, MINI1, *ROWS[row], repeat)
    return None if question is None else Cell((question,), likeness(COLUMNS[column], BODY))


def _alike(mean: dict[tuple[str, str], float]) -> bool:
    return all(
        abs(mean["ANIL-MAML", column] - (mean["MAML-MAML", column] + mean["ANIL-ANIL", column]) / 2) <= 0.05
        for column in COLUMNS
    )


TABLE = Table(
    name="table3",
    title="How alike MAML's and ANIL's representations are",
    about="Mean CCA and linear CKA between networks of different seeds on the query images of the same test tasks, "
    "before adaptation, averaged over the four convolutional layers; mini-ImageNet 5-way 1-shot (the paper does not "
    "say which).",
    rows=tuple(ROWS),
    columns=tuple(COLUMNS),
    published=grid(tuple(ROWS), tuple(COLUMNS), "0.51 0.83  0.51 0.86  0.50 0.83"),
    cell=cell,
    claims=(
        Claim(
            "MAML-ANIL representations have the same average similarity scores as MAML-MAML and ANIL-ANIL "
            "representations (section 4).",
            "ANIL-MAML is within 0.05 of the mean of the other two, for CCA and for CKA",
            _alike,
        ),
    ),
    unit="similarity",
    digits=2,
)
