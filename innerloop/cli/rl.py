"""innerloop rl train | evaluate | probe | watch | paper"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, PositionalRequiredArgs, arg, subcommand

from innerloop.cli.errors import say
from innerloop.cli.study import Action, Options
from innerloop.rl.config import Settings
from innerloop.runs.schedule import Logging

Run = Annotated[Positional[Path], arg(metavar="RUN", help="a meta-RL run's folder, or a checkpoint in it")]


@dataclass(frozen=True)
class TrainPolicy:
    """Meta-train a policy, then test the best one. Started again, it goes on where it stopped.

    The defaults are the ANIL paper's (appendix C.4, and tristandeleu/pytorch-maml-rl at 493e677 for what it leaves
    open).
    """

    settings: OmitArgPrefixes[PositionalRequiredArgs[Settings]]
    logging: OmitArgPrefixes[Logging] = field(default_factory=Logging)
    out: Path | None = None
    """the run's folder; runs/<task>-<algorithm>-seed<seed>-<settings but iterations> if not given"""
    device: str = "cpu"
    """cpu, cuda, or the best there is (auto): where the policy learns; tasks are simulated on the CPU"""
    threads: int | None = None
    """of torch and of the simulator; by default all"""

    def run(self) -> None:
        from innerloop.runs.policies import train_policy

        settings = self.settings
        out = self.out or Path("runs") / replace(settings, iterations=0).name  # it can be made longer
        say(f"{settings.title}: {settings.iterations} iterations in {out}")
        result = train_policy(settings, out, self.logging, threads=_threads(self.threads), device=self.device)
        for algorithm, scores in result["test"].items():
            _print(algorithm, scores)
        say(f"trained policy: {out / 'best.safetensors'} (iteration {result['best_at']})")


@dataclass(frozen=True)
class EvaluatePolicy:
    """Try a trained policy in new tasks: its returns before and after each inner step."""

    path: Run
    tasks: int = 40
    """new tasks"""
    steps: int | None = None
    """inner steps, each with trajectories of its own; by default as in training"""
    seed: int = 0
    """of the tasks"""
    output: Path | None = None
    """write the returns of each task here too, as JSON"""
    threads: int | None = None
    """of torch and of the simulator; by default all"""

    def run(self) -> None:
        from innerloop.runs.policies import evaluate_policy, load_policy

        found = load_policy(self.path, threads=_threads(self.threads))
        scores = evaluate_policy(
            found.settings,
            found.policy,
            tasks=self.tasks,
            steps=self.steps,
            seed=self.seed,
            environment=found.environment,
        )
        _print(found.settings.learning.algorithm, scores)
        if self.output:
            self.output.write_text(json.dumps(scores))


@dataclass(frozen=True)
class ProbePolicy:
    """What adaptation does to each layer of a trained policy: is it feature reuse there, too?"""

    path: Run
    tasks: int = 40
    """new tasks"""
    seed: int = 0
    """of the tasks"""
    output: Path | None = None
    """write all of it here too, as JSON"""
    threads: int | None = None
    """of torch and of the simulator; by default all"""

    def run(self) -> None:
        from innerloop.runs.policies import load_policy, probe_policy

        found = load_policy(self.path, threads=_threads(self.threads))
        probe = probe_policy(found, tasks=self.tasks, seed=self.seed)
        changed = probe.change
        print(f"{'layer':8} {'CCA':>6} {'CKA':>6}  (permuted) {'distance':>9} {'of length':>9}")
        for layer in found.policy.layers:
            chance = f"({changed.permuted_cca[layer]:.2f}, {changed.permuted_cka[layer]:.2f})"
            print(
                f"{layer:8} {changed.cca[layer]:6.3f} {changed.cka[layer]:6.3f} {chance:>12} "
                f"{changed.distance[layer]:9.4f} {changed.length[layer]:9.3f}"
            )
        for frozen, returns in enumerate(probe.freezing):
            what = f"first {frozen} layers frozen" if frozen else "nothing frozen"
            print(f"{what:22} return {returns[0]:.1f} before, {returns[-1]:.1f} after adaptation")
        if self.output:
            self.output.write_text(json.dumps(asdict(probe)))


@dataclass(frozen=True)
class WatchPolicy:
    """Draw what a trained policy does before and after adaptation: a GIF of the cheetah, a PNG of the paths."""

    path: Run
    output: Path | None = None
    """the picture; watch.gif or watch.png in the working directory if not given"""
    seed: int = 0
    """of the tasks and the trajectories"""
    threads: int | None = None
    """of torch and of the simulator; by default all"""

    def run(self) -> None:
        import torch

        from innerloop.rl.watch import picture
        from innerloop.runs.policies import load_policy

        found = load_policy(self.path, threads=_threads(self.threads))
        generator = torch.Generator().manual_seed(self.seed)
        content, suffix = picture(found.policy, found.environment, found.settings.learning.inner(), generator)
        output = self.output or Path(f"watch{suffix}")
        output.write_bytes(content)
        print(output)


@dataclass(frozen=True)
class PaperOfPolicies:
    """Reproduce Table 2's columns of reinforcement learning, and look into the policies: list, plan, run, and report.

    Scales: smoke (seconds, meaningless numbers), small (an hour on two cores), paper (its full settings: two hours a
    core for each policy of the cheetah).
    """

    action: Positional[Action]
    what: Positional[tuple[str, ...]] = ()
    """such as table2; all if not given"""
    options: OmitArgPrefixes[Options] = field(default_factory=Options)

    def run(self) -> None:
        from innerloop.cli.study_actions import act
        from innerloop.paper.policies import STUDY

        act(STUDY, self.action, self.what, self.options)


@dataclass(frozen=True)
class Rl:
    """Meta-reinforcement learning: policies that adapt to a task from a few trajectories."""

    command: OmitSubcommandPrefixes[
        Annotated[TrainPolicy, subcommand("train")]
        | Annotated[EvaluatePolicy, subcommand("evaluate")]
        | Annotated[ProbePolicy, subcommand("probe")]
        | Annotated[WatchPolicy, subcommand("watch")]
        | Annotated[PaperOfPolicies, subcommand("paper")]
    ]

    def run(self) -> None:
        self.command.run()


def _threads(asked: int | None) -> int:
    import torch

    if asked is not None:
        if asked < 1:
            raise ValueError(f"--threads must be at least 1, got {asked}")
        torch.set_num_threads(asked)
    return torch.get_num_threads()


def _print(algorithm: str, scores: dict[str, Any]) -> None:
    for step, (mean, interval) in enumerate(zip(scores["returns"], scores["intervals"], strict=True)):
        spread = "" if interval is None else f" ± {interval:.1f}"
        print(f"{algorithm:8} after {step} steps  return {mean:.1f}{spread}  ({scores['tasks']} tasks)")
