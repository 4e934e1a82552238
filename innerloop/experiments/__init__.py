"""Many trainings: what a study asks of runs, the answers, what it shows of them, and the plan that gets there."""

from innerloop.experiments.exhibits import Cell, Claim, Figure, Panel, Panels, Series, Stated, Table, accuracy
from innerloop.experiments.few_shot import Accuracy, Curves, Likeness, Movement, Timing
from innerloop.experiments.questions import Question
from innerloop.experiments.scale import Scale
from innerloop.experiments.study import Study, load_study

__all__ = [
    "Accuracy",
    "Cell",
    "Claim",
    "Curves",
    "Figure",
    "Likeness",
    "Movement",
    "Panel",
    "Panels",
    "Question",
    "Scale",
    "Series",
    "Stated",
    "Study",
    "Table",
    "Timing",
    "accuracy",
    "load_study",
]
