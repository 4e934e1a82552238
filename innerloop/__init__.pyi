from . import data, models, similarity
from .algorithms import anil, boil, fomaml, freeze, maml
from .classifier import FewShotClassifier
from .data.bank import Bank
from .data.episodes import EpisodeStream, sample
from .descent import learnable_step_sizes
from .device import tune_cpu
from .embedding import embed, head_of
from .evaluation import Score, evaluate
from .heads import Prototypes, Ridge
from .inner import InnerLoop, Loss, adapt, adapted, predict
from .norm import TaskNorm, task_norms
from .outer import Step, meta_gradient, meta_train
from .predictors import NIL, Predictor, bind
from .reuse.adaptation import Change, change
from .reuse.freezing import freezing
from .reuse.networks import Resemblance, resemblance
from .reuse.probe import Probe, probe
from .runs.load import Learner, load
from .tasks import Episodes

__version__: str

__all__ = [
    "NIL",
    "Bank",
    "Change",
    "EpisodeStream",
    "Episodes",
    "FewShotClassifier",
    "InnerLoop",
    "Learner",
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
