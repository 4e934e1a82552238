"""The three scales at which the paper's tables and figures are made: its own, and two that fit other machines.

* paper: the settings of `runs.presets`, which are the paper's; three seeds.
* small: real Omniglot and mini-ImageNet in an evening on two cores. Fewer iterations; mini-ImageNet at 42 pixels,
  halved three times instead of four, so that its features are 800 all the same; Omniglot with meta batches of 4 and 2
  tasks instead of 16, and with Xavier's first weights of the head instead of the reference's N(0, 1), from which MAML
  needs far more iterations to get to features that can be reused (results/README.md).
* smoke: everything end to end in minutes, on glyphs and tiny networks. Its numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from innerloop.runs.config import Spec
from innerloop.runs.presets import PRESETS

OMNI1, OMNI5 = "Omniglot-20way-1shot", "Omniglot-20way-5shot"
MINI1, MINI5 = "MiniImageNet-5way-1shot", "MiniImageNet-5way-5shot"
OMNIGLOT, MINI = (OMNI1, OMNI5), (MINI1, MINI5)

Regime = Literal["maml", "fomaml", "anil", "nil", "multitask", "multiclass", "random"]
"""How a body is trained, section 5.2; random: not at all."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    name: str
    seeds: int
    problems: Mapping[str, Spec]  # MAML's settings for each of the paper's four problems
    episodes: int  # tasks over which similarities are averaged
    checkpoint_episodes: int  # of an accuracy over training (Figures 3 and 9)
    batches: int  # of a timing

    def run(self, problem: str, regime: Regime, seed: int) -> Spec:
        """The training of one body.

        Multiclass and random bodies know no shot, so the problems of one data set share them.
        """
        base = self.problems[problem]
        if regime in ("multiclass", "random"):
            base = self.problems[problem.replace("5shot", "1shot")]
        if regime == "random":
            return base.where(algorithm="anil", iterations=0, keep=0, seed=seed)
        return base.where(algorithm=regime, seed=seed)

    def head(self, problem: str, regime: Regime, seed: int) -> Spec:
        """A head trained on the frozen body of `run` (Appendix D.1), for a fifth of its iterations."""
        base, body = self.problems[problem], self.run(problem, regime, seed)
        fifth = -(-base.schedule.iterations // 5)
        return base.where(algorithm="anil", body=body.name, iterations=fifth, keep=0, seed=seed)

    def timed(self, problem: str, regime: Regime) -> Spec:
        """What Table 6 times: the paper's own settings where they are not glyphs, since no training is needed."""
        base = self.problems[problem] if self.name == "smoke" else _PAPER[problem]
        return base.where(algorithm=regime)


def _scale(name: str, seeds: int, counts: tuple[int, int, int], problems: dict[str, Spec]) -> Scale:
    """Checkpoints are kept after a third, two thirds and all of the iterations (Figures 3, 6 and 9)."""
    kept = {problem: spec.where(keep=spec.schedule.iterations // 3) for problem, spec in problems.items()}
    return Scale(name, seeds, MappingProxyType(kept), *counts)


_SMALL = {
    OMNI1: PRESETS["omniglot-20way-1shot"].where(meta_batch=4, iterations=1800, head_std=None),
    OMNI5: PRESETS["omniglot-20way-5shot"].where(meta_batch=2, iterations=600, val_every=200, head_std=None),
    MINI1: PRESETS["mini-imagenet-5way-1shot"].where(size=42, halvings=3, iterations=2400),
    MINI5: PRESETS["mini-imagenet-5way-5shot"].where(size=42, halvings=3, iterations=2400, val_every=300),
}
_TINY = {
    "data": "glyphs", "size": 28, "width": 8, "meta_batch": 2, "steps": 2, "iterations": 12, "val_every": 6,
    "split": "", "val_episodes": 10, "test_episodes": 20, "test_steps": 3, "meta_lr": 3e-3, "log_every": 2,
}  # fmt: skip
_SMOKE = {
    OMNI1: PRESETS["omniglot-20way-1shot"].where(**_TINY),
    OMNI5: PRESETS["omniglot-20way-5shot"].where(**_TINY),
    MINI1: PRESETS["mini-imagenet-5way-1shot"].where(**_TINY),
    MINI5: PRESETS["mini-imagenet-5way-5shot"].where(**_TINY),
}
_PAPER = {
    OMNI1: PRESETS["omniglot-20way-1shot"],
    OMNI5: PRESETS["omniglot-20way-5shot"],
    MINI1: PRESETS["mini-imagenet-5way-1shot"],
    MINI5: PRESETS["mini-imagenet-5way-5shot"],
}

SCALES: dict[str, Scale] = {
    "smoke": _scale("smoke", 2, (4, 10, 3), _SMOKE),
    "small": _scale("small", 2, (100, 150, 100), _SMALL),
    "paper": _scale("paper", 3, (200, 600, 2000), _PAPER),
}
