"""How much two layers have in common, and how far weights moved: CCA, CKA and Euclidean distance."""

from __future__ import annotations

from innerloop.similarity.activations import activations, fold
from innerloop.similarity.cca import CCA, mean_cca, pwcca, svcca
from innerloop.similarity.cka import CKA, linear_cka
from innerloop.similarity.distance import weight_distance
from innerloop.similarity.moments import Moments

__all__ = [
    "CCA",
    "CKA",
    "Moments",
    "activations",
    "fold",
    "linear_cka",
    "mean_cca",
    "pwcca",
    "svcca",
    "weight_distance",
]
