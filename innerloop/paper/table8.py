"""Table 8: the more alike a body is to MAML's, the better it does.

The bodies of Table 5 on mini-ImageNet 5-way 1-shot, at least two seeds.
"""

from __future__ import annotations

from itertools import pairwise

from innerloop.experiments.exhibits import Cell, Claim, Table
from innerloop.experiments.scale import Scale
from innerloop.paper.pairs import likeness, pair
from innerloop.paper.published import grid
from innerloop.paper.scales import MINI1, Regime

ROWS: dict[str, Regime] = {
    "(MAML, MAML)": "maml",
    "(Multiclass pretrain, MAML)": "multiclass",
    "(Random features, MAML)": "random",
    "(Multitask pretrain, MAML)": "multitask",
}
COLUMNS = {"CCA Similarity": "cca", "CKA Similarity": "cka"}
LAYERS = ("block1", "block2", "block3")
_MAML, _MULTICLASS, _RANDOM, _MULTITASK = ROWS


def cell(scale: Scale, row: str, column: str, repeat: int) -> Cell | None:
    """A body and one of MAML with another seed, over the first three convolutional layers."""
    question = pair(scale, MINI1, ROWS[row], "maml", repeat)
    return None if question is None else Cell((question,), likeness(COLUMNS[column], LAYERS))


TABLE = Table(
    name="table8",
    title="How alike the bodies of other trainings are to MAML's",
    about="Mean CCA and linear CKA on the query images of the same test tasks, before adaptation, averaged over the "
    "first three convolutional layers; mini-ImageNet 5-way 1-shot (the paper does not say which).",
    rows=tuple(ROWS),
    columns=tuple(COLUMNS),
    published=grid(tuple(ROWS), tuple(COLUMNS), "0.51 0.83  0.48 0.79  0.40 0.72  0.28 0.65"),
    cell=cell,
    claims=(
        Claim(
            "Multiclass pretraining results in features most similar to MAML training (Table 8).",
            "multiclass is above random and multitask, for CCA and for CKA",
            lambda mean: all(
                mean[_MULTICLASS, column] > max(mean[_RANDOM, column], mean[_MULTITASK, column]) for column in COLUMNS
            ),
        ),
        Claim(
            "Multitask pretraining differs quite significantly from MAML-learned features (Table 8).",
            "multitask is below all others, for CCA and for CKA",
            lambda mean: all(
                mean[_MULTITASK, column] < min(mean[row, column] for row in ROWS if row != _MULTITASK)
                for column in COLUMNS
            ),
        ),
        Claim(
            "Training schemes learning representations most similar to MAML also performed the best (Appendix D.2).",
            "each row is above the next, for CCA and for CKA: the order of the paper's accuracies (Table 5)",
            lambda mean: all(
                mean[better, column] > mean[worse, column] for better, worse in pairwise(ROWS) for column in COLUMNS
            ),
        ),
    ),
    unit="similarity",
    digits=2,
)
