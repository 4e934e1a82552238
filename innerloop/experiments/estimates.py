"""How long what is left of a campaign takes on this machine, by short trials on random images."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from innerloop.device import device_name, pick_device
from innerloop.evaluation import evaluate
from innerloop.experiments.answers import common_rule, predictor_of, random_episodes, tested_by_its_run
from innerloop.experiments.questions import Accuracy, Change, Curves, Measure, Resemblance, Timing, subject
from innerloop.outer import meta_gradient, meta_train
from innerloop.reuse import adaptation as analysis
from innerloop.runs.checkpoint import load_checkpoint, write_whole
from innerloop.runs.config import Spec
from innerloop.runs.images import Compute
from innerloop.tasks import Episodes


def run_seconds(spec: Spec, done: int, store: Path, how: Compute) -> float:
    """What is left of a run after `done` iterations, its validations and its test.

    At its own rate so far, which has validations in it, or by a trial of two steps and of one validation task.
    """
    left, key = spec.schedule.iterations - done, _alike(spec).key

    def tested(query: int) -> float:
        asked = Accuracy(spec.where(test_query=query), nil=not spec.inner.test_rule().adapt)
        return _rate(f"test with {query} queries of {key}", store, how, lambda device: _task(asked, device))

    test = spec.problem.test_episodes * tested(spec.problem.test_query or spec.problem.shot)
    if not left:
        return test
    if done:
        return test + left * load_checkpoint(store / spec.name / "last.safetensors").metadata["seconds"] / done
    validations = (
        -(-spec.schedule.iterations // spec.schedule.val_every) * spec.problem.val_episodes * tested(spec.problem.query)
    )
    return test + validations + left * _rate(key, store, how, lambda device: _step(spec, device, how.chunk_size))


def answer_seconds(measure: Measure, store: Path, how: Compute) -> float:
    """What a measure takes, by a trial of one task."""
    if isinstance(measure, Curves) or (isinstance(measure, Accuracy) and tested_by_its_run(measure)):
        return 0.0
    tasks = (
        measure.batches if isinstance(measure, Timing) else measure.episodes or subject(measure).problem.test_episodes
    )
    kind, key = type(measure).__name__.lower(), _alike(subject(measure)).key
    if isinstance(measure, Accuracy):
        kind += f" frozen {measure.frozen}, nil {measure.nil}, shot {measure.shot or measure.run.problem.shot}"
    if isinstance(measure, Timing):
        kind += f" {measure.what}"
    return tasks * _rate(f"{kind} of {key}", store, how, lambda device: _task(measure, device))


def _alike(spec: Spec) -> Spec:
    """The same for all runs that differ in nothing that takes time."""
    body = "any" if spec.inner.body else ""
    return spec.where(seed=0, iterations=1, keep=0, body=body, val_every=1, lr=1.0, meta_lr=1.0, clip=None)


def _rate(what: str, store: Path, how: Compute, trial: Callable[[torch.device], float]) -> float:
    """Seconds of one step or task; each trial is made once on a device."""
    device, few = pick_device(how.device), f", {how.chunk_size} tasks at once" if how.chunk_size else ""
    key = f"{what} on {device_name(device)}{few}"
    path = store / "rates.json"
    rates: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if key not in rates:
        rates[key] = trial(device)
        write_whole(path, json.dumps(rates, indent=1).encode())
    return rates[key]


def _step(spec: Spec, device: torch.device, chunk_size: int | None) -> float:
    """Of meta-training; the first is slow."""
    shape, episodes = random_episodes(spec, spec.outer.meta_batch, spec.problem.query, device)
    model = spec.build(shape).to(device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not spec.inner.body or name.startswith("head."))
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    steps = meta_train(model, [episodes] * 3, spec.inner.predictor(spec.problem.way), adam, chunk_size=chunk_size)
    return _seconds(lambda: next(steps).loss.item(), 2)


def _task(measure: Measure, device: torch.device) -> float:
    """Of a measure; the first is slow."""
    run = subject(measure)
    shot, query = run.problem.shot, 1
    if isinstance(measure, Accuracy):
        shot = measure.shot or run.problem.shot
        query = run.problem.test_query or shot
    elif isinstance(measure, Change | Resemblance):
        query = measure.query
    shape, episodes = random_episodes(run.where(shot=shot), 1, query, device)
    model = run.build(shape).to(device)
    return _seconds(lambda: _once(measure, model, episodes), 1)


def _once(measure: Measure, model: torch.nn.Sequential, episodes: Episodes) -> Any:
    match measure:
        case Accuracy():
            return evaluate(model, [episodes], predictor_of(measure, model), every_step=False)
        case Change(run):
            return analysis.change(model, [episodes], run.inner.test_rule())
        case Resemblance(first, second):
            return analysis.resemblance(model, model, [episodes], common_rule(first, second))
        case Timing(run, "training"):
            return meta_gradient(model, episodes, run.inner.rule())
        case _:
            return evaluate(model, [episodes], subject(measure).inner.test_rule(), every_step=False)


def _seconds(run: Callable[[], Any], times: int) -> float:
    run()
    begun = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begun) / times
