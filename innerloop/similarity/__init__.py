"""How much two layers have in common, and how far weights moved.

Canonical correlation analysis (CCA), centred kernel alignment (CKA), orthogonal Procrustes, representational similarity
analysis (RSA), mutual nearest neighbours, cosines within and between classes, and Euclidean distance.
"""

from __future__ import annotations

from innerloop.similarity.activations import activations, fold
from innerloop.similarity.cca import CCA, mean_cca, pwcca, svcca
from innerloop.similarity.cka import CKA, linear_cka
from innerloop.similarity.classes import ClassCosines, class_cosines
from innerloop.similarity.distance import weight_distance
from innerloop.similarity.moments import Moments
from innerloop.similarity.neighbours import Neighbours, mutual_neighbours
from innerloop.similarity.procrustes import Procrustes, procrustes
from innerloop.similarity.rsa import RSA, rsa

__all__ = [
    "CCA",
    "CKA",
    "RSA",
    "ClassCosines",
    "Moments",
    "Neighbours",
    "Procrustes",
    "activations",
    "class_cosines",
    "fold",
    "linear_cka",
    "mean_cca",
    "mutual_neighbours",
    "procrustes",
    "pwcca",
    "rsa",
    "svcca",
    "weight_distance",
]
