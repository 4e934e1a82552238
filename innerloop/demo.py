"""The main result in minutes: MAML against ANIL and NIL on characters of scripts that training never saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table

from innerloop.algorithms import freeze
from innerloop.data.episodes import EpisodeStream
from innerloop.device import pick_device
from innerloop.evaluation import Score, evaluate
from innerloop.predictors import NIL
from innerloop.runs.checkpoint import write_whole
from innerloop.runs.images import Compute, score_dict, test_stream, train_images
from innerloop.runs.load import Learner, load_learner
from innerloop.runs.presets import preset
from innerloop.runs.sources import Source, open_data

BODY = ("block1", "block2", "block3", "block4")
_BLUE, _ORANGE, _GREEN, _GREY = "#3b6fb6", "#d9822b", "#3f8f5f", "#9aa3ad"


def demo(out: Path, compute: Compute) -> dict[str, Any]:
    """Meta-train MAML and ANIL, test, freeze; print a table and draw `out`/demo.png. Done parts are not done again."""
    base = preset("glyphs-5way-1shot")
    learners: dict[str, Learner] = {}
    for algorithm in ("maml", "anil"):
        spec = base.where(algorithm=algorithm)
        train_images(spec, out / f"{algorithm}-{spec.key}", compute)
        learners[algorithm] = load_learner(out / f"{algorithm}-{spec.key}")
    problem = base.problem
    bank = open_data(problem, Source()).test
    stream = test_stream(bank, problem, problem.test_episodes, problem.queries)
    scores = _scores(learners, stream, compute)
    _print(scores, len(bank), len(set(bank.groups)))
    picture = out / "demo.png"
    _draw(scores, learners["anil"], stream, picture)
    results = {name: score_dict(score) for name, score in scores.items()}
    write_whole(out / "demo.json", json.dumps(results, indent=1).encode())
    print(f"picture: {picture}\n{_verdict(scores)}")
    return results


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


def _verdict(scores: dict[str, Score]) -> str:
    maml, frozen, anil, nil = (
        100 * scores[name].mean for name in ("MAML", "MAML, body frozen", "ANIL", "NIL (ANIL's features)")
    )
    return (
        f"Freezing the body in the inner loop takes MAML from {maml:.1f} to {frozen:.1f} %; trained without adapting "
        f"it (ANIL): {anil:.1f} %; with no inner loop at all (NIL): {nil:.1f} %."
    )


def _draw(scores: dict[str, Score], learner: Learner, stream: EpisodeStream, path: Path) -> None:
    """Accuracies with intervals, accuracy by inner step, and one test episode with ANIL's answers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(11, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1], squeeze=False)[0]
    bars, steps = left.subplots(2, 1, height_ratios=[1.25, 1])
    _draw_bars(bars, scores, stream.way)
    for name, colour in (("MAML", _BLUE), ("MAML, body frozen", _GREY), ("ANIL", _ORANGE)):
        values = scores[name].per_step
        steps.plot(range(len(values)), [100 * mean for mean, _ in values], "o-", color=colour, label=name, ms=4)
    steps.axhline(100 * scores["NIL (ANIL's features)"].mean, color=_GREEN, ls="--", label="NIL (no step)")
    steps.set(xlabel="inner steps at test", ylabel="accuracy %", title="Learning a new task")
    steps.set_xticks(range(len(scores["MAML"].per_step)))
    steps.legend(frameon=False)
    _draw_episode(right, learner, stream, scores["ANIL"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_bars(axes: Any, scores: dict[str, Score], way: int) -> None:
    names = list(scores)[::-1]
    colours = [
        _ORANGE if n == "ANIL" else _GREEN if n.startswith("NIL") else _BLUE if n == "MAML" else _GREY for n in names
    ]
    means = [100 * scores[name].mean for name in names]
    axes.barh(names, means, xerr=[100 * scores[n].interval for n in names], color=colours, height=0.66, capsize=2)
    for y, mean in enumerate(means):
        axes.text(2, y, f"{mean:.1f}", va="center", color="white", fontweight="bold")
    axes.axvline(100 / way, color="black", lw=0.8, ls=":")
    axes.set(xlim=(0, 100), xlabel="accuracy % (dotted: chance)", title="Characters of scripts never seen")


@torch.no_grad()
def _draw_episode(figure: Any, learner: Learner, stream: EpisodeStream, score: Score) -> None:
    """A usual task: one labelled drawing a class, then its query drawings with what ANIL calls them."""
    usual = int((score.values[-1] - score.mean).abs().argmin())  # the first whose accuracy is nearest to the mean
    batch, place = divmod(usual, stream.tasks)
    episodes = stream.at(torch.tensor(batch))
    episodes = type(episodes)(*(part[place : place + 1] for part in episodes))
    answers = learner.spec.inner.test_rule()(learner.model.cpu(), episodes)[-1, 0].argmax(-1).view(stream.way, -1)
    support = episodes.support_x[0].view(stream.way, stream.shot, *episodes.support_x.shape[2:])
    query = episodes.query_x[0].view(stream.way, stream.query, *episodes.query_x.shape[2:])
    shown = min(stream.query, 5)
    grid = figure.subplots(stream.way, 1 + shown, squeeze=False)
    figure.suptitle("One test task: a labelled drawing (left), what ANIL calls others", fontsize=10)
    for label in range(stream.way):
        for column, axes in enumerate(grid[label]):
            image = support[label, 0] if column == 0 else query[label, column - 1]
            axes.imshow(1 - np.asarray(image[0]), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            answer = label if column == 0 else int(answers[label, column - 1])
            colour = "black" if column == 0 else _GREEN if answer == label else "#c0392b"
            axes.set_xlabel("ABCDEFGHIJ"[answer], color=colour, fontweight="bold", labelpad=1)
            for spine in axes.spines.values():
                spine.set(visible=True, color=colour, lw=1.6 if column == 0 else 1.0)
