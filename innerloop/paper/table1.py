"""Table 1: layers of a MAML network that may not adapt in the test hardly cost accuracy.

Two trainings a seed: MAML on mini-ImageNet, 5-way 1-shot and 5-shot. Feeds Tables 2, 4, 5, 7 and most figures.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Cell, Claim, Table, accuracy
from innerloop.experiments.scale import Scale
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI, training

FROZEN = ("None", "1", "1,2", "1,2,3", "1,2,3,4")


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell:
    """MAML with the first layers frozen in the test."""
    return accuracy(training(scale, column, "maml", repeat), frozen=FROZEN.index(row))


TABLE = Table(
    name="table1",
    title="Freezing successive layers in the inner loop at test time",
    about="Accuracy of MAML networks whose first layers may not adapt in the test, trained as usual.",
    rows=FROZEN,
    columns=MINI,
    published=grid(
        FROZEN,
        MINI,
        """
        46.9±0.2   63.1±0.4
        46.5±0.3   63.0±0.6
        46.4±0.4   62.6±0.6
        46.3±0.4   61.2±0.5
        46.3±0.4   61.0±0.6
        """,
    ),
    cell=cell,
    claims=(
        Claim(
            "Freezing even all four convolutional layers of the network hardly affects accuracy (Table 1).",
            "with layers 1 to 4 frozen, accuracy is at most 3 points lower than with none, in both columns "
            "(the paper's largest loss is 2.1)",
            lambda mean: all(mean["None", column] - mean["1,2,3,4", column] <= 3 for column in MINI),
        ),
    ),
)
