"""Figure 9: as Figure 3, on mini-ImageNet 5-way 1-shot.

The trainings of Table 1, at the checkpoints that they keep.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Claim, Figure
from innerloop.paper.figure3 import ABOUT, body_is_reused, costs_little, over_training, panels
from innerloop.paper.scales import MINI1

FIGURE = Figure(
    name="figure9",
    title="Freezing and similarity over training, 5-way 1-shot",
    about=ABOUT,
    published="Little to no loss of accuracy by freezing, and CCA near 1 but for the head, from 10,000 iterations on.",
    asks=lambda scale: over_training(scale, MINI1),
    panels=panels,
    claims=(
        Claim(
            "The validation set accuracy suffers almost no decrease if we remove the inner loop updates and freeze all "
            "layers but the head, from early on in training (Appendix B.5).",
            "freezing all four convolutional layers costs at most 3 points at each of the three checkpoints (0.6 in "
            "the paper's Table 1)",
            costs_little,
        ),
        Claim(
            "The CCA similarity between activations pre and post inner loop update is very high for all layers but the "
            "head, from early on in training (Appendix B.5).",
            "every convolutional layer's mean CCA is at least 0.9 at each of the three checkpoints",
            body_is_reused,
        ),
    ),
)
