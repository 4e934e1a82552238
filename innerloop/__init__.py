"""Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between."""

from innerloop import data, models, similarity
from innerloop.algorithms import anil, boil, fomaml, freeze, maml
from innerloop.classifier import FewShotClassifier
from innerloop.data.bank import Bank
from innerloop.data.episodes import EpisodeStream, sample
from innerloop.descent import learnable_step_sizes
from innerloop.device import tune_cpu
from innerloop.embedding import embed, head_of
from innerloop.evaluation import Score, evaluate
from innerloop.heads import Prototypes, Ridge
from innerloop.inner import InnerLoop, Loss, adapt, adapted, predict
from innerloop.norm import TaskNorm, task_norms
from innerloop.outer import Step, meta_gradient, meta_train
from innerloop.predictors import NIL, Predictor, bind
from innerloop.reuse.adaptation import Change, Resemblance, change, freezing, resemblance
from innerloop.reuse.probe import Probe, probe
from innerloop.runs.load import load_learner as load
from innerloop.tasks import Episodes

__version__ = "0.1.0"

__all__ = [
    "NIL",
    "Bank",
    "Change",
    "EpisodeStream",
    "Episodes",
    "FewShotClassifier",
    "InnerLoop",
    "Loss",
    "Predictor",
    "Probe",
    "Prototypes",
    "Resemblance",
    "Ridge",
    "Score",
    "Step",
    "TaskNorm",
    "adapt",
    "adapted",
    "anil",
    "bind",
    "boil",
    "change",
    "data",
    "embed",
    "evaluate",
    "fomaml",
    "freeze",
    "freezing",
    "head_of",
    "learnable_step_sizes",
    "load",
    "maml",
    "meta_gradient",
    "meta_train",
    "models",
    "predict",
    "probe",
    "resemblance",
    "sample",
    "similarity",
    "task_norms",
    "tune_cpu",
]
