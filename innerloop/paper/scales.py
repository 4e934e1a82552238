"""The three scales at which the paper's tables and figures are made: its own, and two that fit other machines.

* paper: the settings of `runs.presets`, which are the paper's; three seeds.
* small: real Omniglot and mini-ImageNet in an evening on two cores. Fewer iterations; mini-ImageNet at 42 pixels,
  halved three times instead of four, so that its features are 800 all the same; Omniglot with meta batches of 4 and 2
  tasks instead of 16, and with Xavier's first weights of the head instead of the reference's N(0, 1), from which MAML
  needs far more iterations to get to features that can be reused (results/README.md).
* smoke: everything end to end in minutes, on glyphs and tiny networks. Its numbers mean nothing.

What a scale counts: the tasks over which similarities are averaged ("compared"), the episodes of an accuracy over
training ("checkpoint", Figures 3 and 9), the calls of a timing ("batches").
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from innerloop.experiments.scale import Scale
from innerloop.runs.config import Spec
from innerloop.runs.presets import PRESETS

OMNI1, OMNI5 = "Omniglot-20way-1shot", "Omniglot-20way-5shot"
MINI1, MINI5 = "MiniImageNet-5way-1shot", "MiniImageNet-5way-5shot"
OMNIGLOT, MINI = (OMNI1, OMNI5), (MINI1, MINI5)

Regime = Literal["maml", "fomaml", "anil", "nil", "multitask", "multiclass", "random"]
"""How a body is trained, section 5.2; random: not at all."""


def training(scale: Scale, problem: str, regime: Regime, seed: int) -> Spec:
    """The training of one body.

    Multiclass and random bodies know no shot, so the problems of one data set share them.
    """
    base = scale.problems[problem]
    if regime in ("multiclass", "random"):
        base = scale.problems[problem.replace("5shot", "1shot")]
    if regime == "random":
        return base.where(algorithm="anil", iterations=0, keep=0, seed=seed)
    return base.where(algorithm=regime, seed=seed)


def head_on(scale: Scale, problem: str, regime: Regime, seed: int) -> Spec:
    """A head trained on the frozen body of `training` (Appendix D.1), for a fifth of its iterations."""
    base, body = scale.problems[problem], training(scale, problem, regime, seed)
    return base.where(algorithm="anil", body=body.name, iterations=-(-base.schedule.iterations // 5), keep=0, seed=seed)


def timed(scale: Scale, problem: str, regime: Regime) -> Spec:
    """What Table 6 times: the paper's own settings where the numbers mean something, since no training is needed."""
    base = _PAPER[problem] if scale.judged else scale.problems[problem]
    return base.where(algorithm=regime)


def settings(base: Spec) -> dict[str, str]:
    """What the report lists of a problem's settings."""
    return {
        "data": base.problem.data,
        "image size": f"{base.problem.size} px",
        "filters": str(base.model.width),
        "tasks a batch": str(base.outer.meta_batch),
        "iterations": f"{base.schedule.iterations:,}",
        "test episodes": f"{base.problem.test_episodes:,}",
    }


_TINY = {
    "data": "glyphs", "size": 28, "width": 8, "meta_batch": 2, "steps": 2, "iterations": 12, "val_every": 6,
    "split": "", "val_episodes": 10, "test_episodes": 20, "test_steps": 3, "meta_lr": 3e-3, "log_every": 2,
}  # fmt: skip
_PAPER = {
    OMNI1: PRESETS["omniglot-20way-1shot"],
    OMNI5: PRESETS["omniglot-20way-5shot"],
    MINI1: PRESETS["mini-imagenet-5way-1shot"],
    MINI5: PRESETS["mini-imagenet-5way-5shot"],
}
_SMOKE = {problem: spec.where(**_TINY) for problem, spec in _PAPER.items()}
_SMALL = {
    OMNI1: _PAPER[OMNI1].where(meta_batch=4, iterations=1800, head_std=None),
    OMNI5: _PAPER[OMNI5].where(meta_batch=2, iterations=600, val_every=200, head_std=None),
    MINI1: _PAPER[MINI1].where(size=42, halvings=3, iterations=2400),
    MINI5: _PAPER[MINI5].where(size=42, halvings=3, iterations=2400, val_every=300),
}


def _scale(
    name: str, seeds: int, about: str, problems: dict[str, Spec], counts: dict[str, int], *, judged: bool = True
) -> Scale:
    """Checkpoints are kept after a third, two thirds and all of the iterations (Figures 3, 6 and 9)."""
    kept = {problem: spec.where(keep=spec.schedule.iterations // 3) for problem, spec in problems.items()}
    return Scale(name, seeds, about, MappingProxyType(kept), MappingProxyType(counts), judged)


SCALES: dict[str, Scale] = {
    "smoke": _scale(
        "smoke", 2, "Tiny networks on drawn glyphs: these numbers only show that everything runs.",
        _SMOKE, {"compared": 4, "checkpoint": 10, "batches": 3}, judged=False,
    ),
    "small": _scale(
        "small", 2, "A shortened training: at most a twelfth of the paper's iterations, mini-ImageNet at half its "
        "size, smaller meta batches on Omniglot. Accuracies lie below the paper's; what compares is their order.",
        _SMALL, {"compared": 100, "checkpoint": 150, "batches": 100},
    ),
    "paper": _scale(
        "paper", 3, "The paper's own settings.",
        _PAPER, {"compared": 200, "checkpoint": 600, "batches": 2000},
    ),
}  # fmt: skip
