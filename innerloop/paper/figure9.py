"""Figure 9: as Figure 3, on mini-ImageNet 5-way 1-shot.

The trainings of Table 1, at the checkpoints that they keep.
"""

from __future__ import annotations

from innerloop.paper.artifact import Figure
from innerloop.paper.figure3 import ABOUT, CLAIMS, over_training, panels
from innerloop.paper.scales import MINI1

FIGURE = Figure(
    name="figure9",
    title="Freezing and similarity over training, 5-way 1-shot",
    about=ABOUT,
    published="Little to no loss of accuracy by freezing, and CCA near 1 but for the head, from 10,000 iterations on.",
    questions=lambda scale: over_training(scale, MINI1),
    panels=panels,
    claims=CLAIMS,
)
