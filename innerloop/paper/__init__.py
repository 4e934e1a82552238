"""Every table and figure of the paper, by name: Raghu, Raghu, Bengio and Vinyals, ICLR 2020, arXiv 1909.09157."""

from innerloop.experiments.exhibits import Artifact
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

_TABLES = (table1, table2, table3, table4, table5, table6, table7, table8)
_FIGURES = (figure2, figure3, figure5, figure6, figure7, figure8, figure9, figure10, figure11)

ARTIFACTS: dict[str, Artifact] = {
    **{module.TABLE.name: module.TABLE for module in _TABLES},
    **{module.FIGURE.name: module.FIGURE for module in _FIGURES},
}
"""Figures 1 and 4 of the paper are schematics."""
