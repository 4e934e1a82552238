"""The main result in minutes: MAML against ANIL and NIL on characters of scripts that training never saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Column, Table

from innerloop.algorithms import freeze
from innerloop.data.episodes import EpisodeStream
from innerloop.device import pick_device
from innerloop.evaluation import Score, evaluate
from innerloop.predictors import NIL
from innerloop.runs.checkpoint import write_whole
from innerloop.runs.images import score_dict, test_stream, train_images
from innerloop.runs.load import Learner, load
from innerloop.runs.means import Compute, Source
from innerloop.runs.presets import preset
from innerloop.runs.sources import open_data

BODY = ("block1", "block2", "block3", "block4")


class Demo(NamedTuple):
    """What came out."""

    scores: dict[str, Score]  # by what was tested, all on the same episodes
    learner: Learner  # ANIL's
    stream: EpisodeStream  # the test episodes

    @property
    def verdict(self) -> str:
        """One sentence with its numbers."""
        maml, frozen, anil, nil = (
            100 * self.scores[name].mean for name in ("MAML", "MAML, body frozen", "ANIL", "NIL (ANIL's features)")
        )
        return (
            f"Freezing the body in the inner loop takes MAML from {maml:.1f} to {frozen:.1f} %; trained without "
            f"adapting it (ANIL): {anil:.1f} %; with no inner loop at all (NIL): {nil:.1f} %."
        )


def demo(out: Path, compute: Compute) -> Demo:
    """Meta-train MAML and ANIL, test, freeze; print a table. Done parts are not done again."""
    base = preset("glyphs-5way-1shot")
    learners: dict[str, Learner] = {}
    for algorithm in ("maml", "anil"):
        spec = base.where(algorithm=algorithm)
        train_images(spec, out / f"{algorithm}-{spec.key}", compute)
        learners[algorithm] = load(out / f"{algorithm}-{spec.key}")
    problem = base.problem
    bank = open_data(problem, Source()).test
    stream = test_stream(bank, problem, problem.test_episodes, problem.queries)
    scores = _scores(learners, stream, compute)
    _print(scores, len(bank), len(set(bank.groups)))
    results = {name: score_dict(score) for name, score in scores.items()}
    write_whole(out / "demo.json", json.dumps(results, indent=1).encode())
    return Demo(scores, learners["anil"], stream)


def _scores(learners: dict[str, Learner], stream: EpisodeStream, compute: Compute) -> dict[str, Score]:
    """Every row of the table, on the same episodes."""
    device = pick_device(compute.device)
    maml, anil = (learners[name].model.to(device) for name in ("maml", "anil"))
    rule = learners["maml"].spec.inner.test_rule()
    stream = replace(stream, bank=stream.bank.to(device))
    scores = {"MAML": evaluate(maml, stream, rule)}
    for last, frozen in enumerate(("block 1", "block 1 to 2", "block 1 to 3", "body"), start=1):
        scores[f"MAML, {frozen} frozen"] = evaluate(maml, stream, freeze(rule, *BODY[:last]))
    scores["ANIL"] = evaluate(anil, stream, learners["anil"].spec.inner.test_rule())
    scores["NIL (ANIL's features)"] = evaluate(anil, stream, NIL(way=stream.way))
    return scores


def _print(scores: dict[str, Score], classes: int, scripts: int) -> None:
    episodes = next(iter(scores.values())).values.shape[1]
    table = Table(
        Column("predictor", min_width=62), Column("accuracy %", justify="right"),
        title=f"glyphs, 5-way 1-shot, {classes} characters of {scripts} scripts never seen, {episodes} episodes",
    )  # fmt: skip
    for name, score in scores.items():
        table.add_row(name, f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}")
    Console().print(table)
