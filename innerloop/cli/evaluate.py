"""innerloop evaluate"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import OmitArgPrefixes, Positional

from innerloop.choices import Statistics, did_you_mean
from innerloop.cli.errors import say
from innerloop.runs.means import Compute, Source

if TYPE_CHECKING:
    from torch import nn

    from innerloop.predictors import Predictor
    from innerloop.runs.config import Spec


@dataclass(frozen=True)
class Evaluate:
    """Test a trained network on fresh episodes: accuracy after every inner step, with 95 % intervals."""

    checkpoint: Positional[Path]
    """best.safetensors of a run, or the run's folder"""
    predictor: Literal["own", "nil"] = "own"
    """the inner loop it was trained with, or NIL: no head, cosine to the support features"""
    freeze: tuple[str, ...] = ()
    """layers that the inner loop must not adapt, such as block1 block2"""
    statistics: Statistics | None = None
    """whose statistics normalise a query image: the query set's, the support set's, or the image's own; as in the
    run's own test if not given"""
    steps: int | None = None
    """inner steps; as in the run's own test if not given"""
    way: int | None = None
    """classes of a task; NIL takes any number, the head only what it was trained with"""
    shot: int | None = None
    """support images a class"""
    query: int | None = None
    """query images a class"""
    episodes: int | None = None
    """episodes of the test"""
    part: Literal["train", "val", "test"] = "test"
    """the classes to draw from"""
    data: str | None = None
    """other data than it was trained on"""
    compute: OmitArgPrefixes[Compute] = field(default_factory=Compute)
    source: OmitArgPrefixes[Source] = field(default_factory=Source)
    json: bool = False
    """print JSON"""

    def _predictor(self, asked: Spec, model: nn.Module) -> Predictor:
        from innerloop.algorithms import freeze
        from innerloop.params import chosen, layers_of
        from innerloop.predictors import NIL

        statistics = self.statistics or asked.inner.statistics
        own = self.predictor == "own" and asked.inner.test_rule().adapt
        if not own and self.freeze:
            raise ValueError("without an inner loop there is nothing to freeze: leave --freeze out")
        if not own:
            return NIL(way=asked.problem.way, statistics=statistics)
        rule = replace(asked.inner.test_rule(), statistics=statistics)
        names = [name for name, _ in model.named_parameters()]
        for layer in self.freeze:
            if not any(fnmatchcase(name, f"{layer}.*") for name in names):
                there = layers_of(model)
                raise ValueError(
                    f"there is no layer {layer!r} to freeze; there are {', '.join(there)}.{did_you_mean(layer, there)}"
                )
            if chosen(model, freeze(rule, layer).adapt) == chosen(model, rule.adapt):
                say(f"{layer}: the inner loop of this run changes nothing there, frozen or not")
        return freeze(rule, *self.freeze)

    def run(self) -> None:
        from innerloop.data import data_set
        from innerloop.device import pick_device
        from innerloop.evaluation import evaluate
        from innerloop.predictors import NIL
        from innerloop.runs.images import score_dict, test_stream
        from innerloop.runs.load import load
        from innerloop.runs.sources import bank_for

        learner = load(self.checkpoint)
        model, spec = learner.model, learner.spec
        changes = {name: getattr(self, name) for name in ("way", "shot") if getattr(self, name) is not None}
        if self.data is not None and data_set(self.data).name != spec.problem.data:
            changes |= {"data": data_set(self.data).name, "split": ""}
        if self.steps is not None:
            changes["test_steps"] = self.steps
        asked = spec.where(**changes)
        problem, outputs = asked.problem, spec.problem.way
        if self.predictor == "own" and problem.way != outputs:
            raise ValueError(
                f"the head has {outputs} outputs, not {problem.way}: leave --way out or use --predictor nil"
            )
        predictor = self._predictor(asked, model)
        device = pick_device(self.compute.device)
        bank = bank_for(learner, replace(problem, way=outputs), self.source, self.part).to(device)
        query = problem.queries if self.query is None else self.query
        episodes = problem.test_episodes if self.episodes is None else self.episodes
        stream = test_stream(bank, problem, episodes, query)
        score = evaluate(model.to(device), stream, predictor, chunk_size=self.compute.chunk_size, progress=True)
        if self.json:
            print(json.dumps(score_dict(score)))
            return
        for step, (mean, half) in enumerate(score.per_step):
            spread = "" if isnan(half) else f" ± {100 * half:.2f}"  # of one episode there is none
            print(f"{step:2} steps  {100 * mean:.2f}{spread} %")
        tested = "NIL" if isinstance(predictor, NIL) else "own inner loop"
        say(f"{tested}, {problem.way}-way {problem.shot}-shot on {bank.name}, {query} queries a class: {score}")
