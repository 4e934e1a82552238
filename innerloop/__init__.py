"""Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between."""

from innerloop.analysis import Change, Resemblance, change, freezing, resemblance
from innerloop.classifier import FewShotClassifier
from innerloop.cpu import tune_cpu
from innerloop.data import folder, glyphs, load, mini_imagenet, omniglot
from innerloop.episodes import EpisodeStream, ImageBank, sample
from innerloop.inner import Episodes, InnerLoop, adapt, predict
from innerloop.norm import TaskNorm
from innerloop.outer import Score, Step, evaluate, meta_gradient, meta_train
from innerloop.probing import Probe, probe
from innerloop.rules import NIL, anil, boil, fomaml, freeze, maml

__version__ = "0.1.0"

__all__ = [
    "NIL",
    "Change",
    "EpisodeStream",
    "Episodes",
    "FewShotClassifier",
    "ImageBank",
    "InnerLoop",
    "Probe",
    "Resemblance",
    "Score",
    "Step",
    "TaskNorm",
    "adapt",
    "anil",
    "boil",
    "change",
    "evaluate",
    "folder",
    "fomaml",
    "freeze",
    "freezing",
    "glyphs",
    "load",
    "maml",
    "meta_gradient",
    "meta_train",
    "mini_imagenet",
    "omniglot",
    "predict",
    "probe",
    "resemblance",
    "sample",
    "tune_cpu",
]
