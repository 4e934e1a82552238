"""Table 2: ANIL does as well as MAML.

Two trainings a seed and problem: MAML and ANIL on Omniglot and mini-ImageNet. The columns of reinforcement learning
have their place here, and their runs in a study of their own, `paper.policies`, for they need mujoco and many hours.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Cell, Claim, Table, accuracy
from innerloop.experiments.scale import Scale
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI, OMNIGLOT, Regime, training

ROWS: dict[str, Regime] = {"MAML": "maml", "ANIL": "anil"}
IMAGES = (*OMNIGLOT, *MINI)
CONTROL = ("HalfCheetah-Direction", "HalfCheetah-Velocity", "2D-Navigation")


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell | None:
    """A network tested with the inner loop that it was trained with."""
    return accuracy(training(scale, column, ROWS[row], repeat)) if column in IMAGES else None


TABLE = Table(
    name="table2",
    title="ANIL against MAML",
    about="Test accuracy in % of networks trained by MAML and by ANIL; the last three columns are average returns.",
    rows=tuple(ROWS),
    columns=(*IMAGES, *CONTROL),
    published=grid(
        tuple(ROWS),
        (*IMAGES, *CONTROL),
        """
        93.7±0.7  96.4±0.1  46.9±0.2  63.1±0.4   170.4±21.0  -139.0±18.9  -20.3±3.2
        96.2±0.5  98.0±0.3  46.7±0.4  61.5±0.5   363.2±14.8  -120.9±6.3   -20.1±2.3
        """,
    ),
    cell=cell,
    unit="accuracy %, and average returns in the last three columns",
    claims=(
        Claim(
            "ANIL matches the performance of MAML on few-shot image classification (Table 2).",
            "ANIL is at most 3 points below or above MAML on each of the four problems (the paper's largest "
            "difference is 2.5)",
            lambda mean: all(abs(mean["MAML", column] - mean["ANIL", column]) <= 3 for column in IMAGES),
        ),
        Claim(
            "ANIL matches the performance of MAML in reinforcement learning (Table 2).",
            "ANIL's return is at most a tenth of MAML's below it, in each of the three environments",
            lambda mean: all(
                mean["MAML", column] - mean["ANIL", column] <= 0.1 * abs(mean["MAML", column]) for column in CONTROL
            ),
        ),
    ),
)
