"""The picture of `innerloop demo`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from innerloop.data.episodes import EpisodeStream
from innerloop.demo import Demo
from innerloop.evaluation import Score
from innerloop.report.plot import STYLE
from innerloop.report.style import GREY, MEANING
from innerloop.runs.load import Learner

_MAML, _ANIL, _NIL, _WRONG = MEANING["maml"], MEANING["anil"], MEANING["nil"], "#c0392b"


def demo_picture(found: Demo, *, dpi: int = 150) -> bytes:
    """A PNG with accuracies and intervals, accuracy by inner step, and one test episode with ANIL's answers."""
    with rc_context(STYLE), io.BytesIO() as file:
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        _draw(figure, found.scores, found.learner, found.stream)
        figure.savefig(file, format="png", dpi=dpi)
        return file.getvalue()


def _draw(figure: Figure, scores: dict[str, Score], learner: Learner, stream: EpisodeStream) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1], squeeze=False)[0]
    bars, steps = left.subplots(2, 1, height_ratios=[1.25, 1])
    _draw_bars(bars, scores, stream.way)
    for name, colour in (("MAML", _MAML), ("MAML, body frozen", GREY), ("ANIL", _ANIL)):
        values = scores[name].per_step
        steps.plot(range(len(values)), [100 * mean for mean, _ in values], "o-", color=colour, label=name, ms=4)
    steps.axhline(100 * scores["NIL (ANIL's features)"].mean, color=_NIL, ls="--", label="NIL (no step)")
    steps.set(xlabel="inner steps at test", ylabel="accuracy %", title="Learning a new task")
    steps.set_xticks(range(len(scores["MAML"].per_step)))
    steps.legend(frameon=False)
    _draw_episode(right, learner, stream, scores["ANIL"])


def _draw_bars(axes: Any, scores: dict[str, Score], way: int) -> None:
    names = list(scores)[::-1]
    colours = [_ANIL if n == "ANIL" else _NIL if n.startswith("NIL") else _MAML if n == "MAML" else GREY for n in names]
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
            colour = "black" if column == 0 else _NIL if answer == label else _WRONG
            axes.set_xlabel("ABCDEFGHIJ"[answer], color=colour, fontweight="bold", labelpad=1)
            for spine in axes.spines.values():
                spine.set(visible=True, color=colour, lw=1.6 if column == 0 else 1.0)
