"""Table 4: without head and inner loop (NIL), ANIL's features do as well as ANIL and MAML.

The trainings of Table 2.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Cell, Claim, Table, accuracy
from innerloop.experiments.scale import Scale
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI, OMNIGLOT, training

ROWS = ("MAML", "ANIL", "NIL")
COLUMNS = (*OMNIGLOT, *MINI)


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell:
    """NIL is tested on the features that ANIL trained."""
    return accuracy(training(scale, column, "maml" if row == "MAML" else "anil", repeat), nil=row == "NIL")


TABLE = Table(
    name="table4",
    title="NIL against MAML and ANIL",
    about="Test accuracy of MAML, of ANIL, and of the features that ANIL trained with no head at all: the softmax of "
    "the cosines to the support features, at temperature 1, weights the support labels.",
    rows=ROWS,
    columns=COLUMNS,
    published=grid(
        ROWS,
        COLUMNS,
        """
        93.7±0.7  96.4±0.1   46.9±0.2  63.1±0.4
        96.2±0.5  98.0±0.3   46.7±0.4  61.5±0.5
        96.7±0.3  98.0±0.04  48.0±0.7  62.2±0.5
        """,
    ),
    cell=cell,
    claims=(
        Claim(
            "With no test-time inner loop, and just learned features, NIL performs comparably to MAML and ANIL "
            "(Table 4).",
            "NIL is at most 3.1 points from MAML and from ANIL on each of the four problems (the paper's largest "
            "difference is 3.0)",
            lambda mean: all(
                abs(mean[other, column] - mean["NIL", column]) <= 3.1
                for other in ("MAML", "ANIL")
                for column in COLUMNS
            ),
        ),
    ),
)
