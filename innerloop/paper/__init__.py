"""The study that reproduces the paper: Raghu, Raghu, Bengio and Vinyals, ICLR 2020, arXiv 1909.09157.

A file declares one table or figure; Figures 1 and 4 of the paper are schematics.
"""

from innerloop.experiments.study import Study
from innerloop.paper import (
    figure2,
    figure3,
    figure5,
    figure6,
    figure7,
    figure8,
    figure9,
    figure10,
    figure11,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
)
from innerloop.paper.finding import finds
from innerloop.paper.scales import SCALES, settings

_TABLES = (table1, table2, table3, table4, table5, table6, table7, table8)
_FIGURES = (figure2, figure3, figure5, figure6, figure7, figure8, figure9, figure10, figure11)

STUDY = Study(
    name="paper",
    title="Rapid learning or feature reuse?",
    asks="Does MAML (model-agnostic meta-learning) work because it learns each new task rapidly, or because the "
    "features that it already has can be reused as they are?",
    finds=finds,
    exhibits=(*(module.TABLE for module in _TABLES), *(module.FIGURE for module in _FIGURES)),
    scales=tuple(SCALES.values()),
    settings=settings,
    reproduces="Aniruddh Raghu, Maithra Raghu, Samy Bengio and Oriol Vinyals: “Rapid Learning or Feature Reuse? "
    "Towards Understanding the Effectiveness of MAML”, ICLR 2020, arXiv:1909.09157",
    link="https://arxiv.org/abs/1909.09157",
    command="innerloop paper",
)
"""Every table and figure of the paper."""
