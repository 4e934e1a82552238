"""Figure 10: as Figure 5, on mini-ImageNet and on Omniglot 20-way 1-shot.

The training curves of the runs of Table 2.
"""

from __future__ import annotations

from innerloop.experiments.exhibits import Figure
from innerloop.paper.figure5 import ABOUT, alike, learning, panels
from innerloop.paper.scales import MINI1, MINI5, OMNI1

PROBLEMS = (MINI1, MINI5, OMNI1)

FIGURE = Figure(
    name="figure10",
    title="Learning curves of MAML and ANIL on mini-ImageNet and Omniglot",
    about=ABOUT,
    published="The curves of MAML and ANIL nearly coincide on all three problems.",
    asks=lambda scale: learning(scale, *PROBLEMS),
    panels=panels,
    claims=(alike(*PROBLEMS),),
)
