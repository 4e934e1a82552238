"""Figure 8: as Figure 7, with CKA.

The trainings of Table 1, at least two seeds.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Claim, Figure
from innerloop.paper.figure7 import ABOUT, across_seeds, near_the_diagonal, questions

FIGURE = Figure(
    name="figure8",
    title="CKA across seeds, before and after adaptation",
    about=ABOUT,
    published="More variation than with CCA, and still a strong correlation.",
    asks=questions,
    panels=lambda answers: across_seeds(answers, "cka"),
    claims=(
        Claim(
            "There is more variation in the similarity scores, but we still see a strong correlation (Appendix B.4).",
            "in each panel the slope is within 0.25 of 1 and R² is at least 0.7",
            lambda panels: near_the_diagonal(panels, 0.25, 0.7),
        ),
    ),
)
