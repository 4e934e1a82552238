"""Answers to the questions of `runs.measures`: computed on trained runs, and kept as files beside them.

A store is a folder with the trained runs, each under its own name, and `measured/`, one JSON file an answer.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from innerloop.algorithms import freeze
from innerloop.data import Splits, data_set
from innerloop.data.bank import Bank
from innerloop.data.episodes import EpisodeStream
from innerloop.device import device_name, pick_device
from innerloop.evaluation import evaluate
from innerloop.experiments.questions import Accuracy, Change, Curves, Measure, Resemblance, Timing, as_json, name_of
from innerloop.inner import InnerLoop
from innerloop.outer import meta_gradient
from innerloop.params import layers_of
from innerloop.predictors import NIL, Predictor
from innerloop.reuse import adaptation as analysis
from innerloop.runs.checkpoint import write_whole
from innerloop.runs.config import Spec
from innerloop.runs.images import Compute, result_of, score_dict, test_stream
from innerloop.runs.load import load_learner
from innerloop.tasks import Episodes

_WARM_UP = 2

Banks = Callable[[Spec], Splits]


def find(measure: Measure, store: Path) -> dict[str, Any] | None:
    """The answer that the store has, with the "device" and the "seconds" it took; None if it has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = path_of(measure, store)
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())["answer"]
    except (ValueError, KeyError, TypeError) as error:  # no text, no JSON, or JSON of something else
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from error


def compute(measure: Measure, store: Path, banks: Banks, how: Compute) -> dict[str, Any]:
    """Find the answer on the runs of the store, which must be there, and keep it.

    Its device is the run's where the run itself has found it, in its training or its test.

    Raises:
        FileNotFoundError: a run is not trained.
        OSError: the store cannot be written.
    """
    device, begun = pick_device(how.device), time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*noise")  # the answer says what chance scores
        answer = _answer(measure, store, banks, device, how.chunk_size)
    answer = {"device": device_name(device), "seconds": round(time.monotonic() - begun, 1)} | answer
    question = as_json(measure)
    about = {"question": question, "answer": answer, "torch": torch.__version__}
    write_whole(path_of(measure, store), json.dumps(about, indent=1).encode())
    return answer


def path_of(measure: Measure, store: Path) -> Path:
    """Where the store keeps the answer."""
    return store / "measured" / f"{name_of(measure)}.json"


def _answer(
    measure: Measure, store: Path, banks: Banks, device: torch.device, chunk_size: int | None
) -> dict[str, Any]:
    match measure:
        case Accuracy():
            return _accuracy(measure, store, banks, device, chunk_size)
        case Change(run, episodes, at, query):
            model = _network(run, store, device, at)
            found = analysis.change(model, _stream(run, banks, device, episodes, query), run.inner.test_rule())
            return asdict(found)
        case Resemblance(first, second, episodes, query):
            networks = [_network(run, store, device, None) for run in (first, second)]
            rules = common_rule(first, second)
            layers = [name for name in layers_of(networks[0]) if rules or name != "head"]
            stream = _stream(first, banks, device, episodes, query)
            found = analysis.resemblance(networks[0], networks[1], stream, rules, layers=layers)
            return asdict(found)
        case Curves(run):
            return _curves(store / run.name / "metrics.jsonl") | {"device": _result(run, store)["device"]}
        case Timing():
            return _timing(measure, device)


def _network(run: Spec, store: Path, device: torch.device, at: int | None) -> torch.nn.Sequential:
    """The network that validation chose, or that of an iteration; a run's first weights need no training."""
    folder = store / run.name
    if at is None or at == 0:
        learner = load_learner(folder)
        return (learner.model if at is None else run.build(learner.shape).eval()).to(device)
    return load_learner(folder / f"at-{at}.safetensors").model.to(device)


def _bank(run: Spec, banks: Banks, device: torch.device) -> Bank:
    return banks(run).test.to(device)


def _stream(run: Spec, banks: Banks, device: torch.device, episodes: int, query: int) -> EpisodeStream:
    return _bank(run, banks, device).episodes(run.problem.way, run.problem.shot, query, count=episodes)


def _accuracy(
    measure: Accuracy, store: Path, banks: Banks, device: torch.device, chunk_size: int | None
) -> dict[str, Any]:
    run = measure.run
    if tested_by_its_run(measure):
        result = _result(run, store)
        return _last_step(result["test"][_tested(measure)]) | {"device": result["device"]}
    model = _network(run, store, device, measure.at)
    asked = run.where(shot=measure.shot or run.problem.shot)
    stream = test_stream(
        _bank(run, banks, device),
        asked.problem,
        measure.episodes or run.problem.test_episodes,
        run.problem.test_query or asked.problem.shot,
    )
    score = evaluate(model, stream, predictor_of(measure, model), chunk_size=chunk_size, every_step=False)
    return _last_step(dict(score_dict(score)))


def _result(run: Spec, store: Path) -> dict[str, Any]:
    result = result_of(run, store / run.name)
    if result is None:
        raise FileNotFoundError(f"the run {run.name} is not trained")
    return result


def _last_step(score: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in score.items() if name != "per_step"}


def tested_by_its_run(measure: Accuracy) -> bool:
    """Whether the run's own test at the end of its training has asked the same."""
    same = measure.frozen == 0 and measure.at is None
    same = (
        same
        and measure.shot in (None, measure.run.problem.shot)
        and measure.episodes in (None, measure.run.problem.test_episodes)
    )
    return same and (measure.nil or bool(measure.run.inner.test_rule().adapt))


def _tested(measure: Accuracy) -> str:
    return "nil" if measure.nil else measure.run.inner.algorithm


def predictor_of(measure: Accuracy, model: torch.nn.Sequential) -> Predictor:
    """What is tested."""
    body = layers_of(model)[: measure.frozen]
    return NIL(way=measure.run.problem.way) if measure.nil else freeze(measure.run.inner.test_rule(), *body)


def common_rule(first: Spec, second: Spec) -> InnerLoop | None:
    """The inner loop that both networks are tested with, if it is the same."""
    rule = first.inner.test_rule()
    return rule if rule.adapt and rule == second.inner.test_rule() else None


def _curves(path: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    trained = [line for line in lines if "loss" in line]
    tested = [line for line in lines if "val_accuracy" in line]
    return {key: [line[key] for line in trained] for key in ("iteration", "loss", "accuracy")} | {
        "val_iteration": [line["iteration"] for line in tested],
        "val_accuracy": [line["val_accuracy"] for line in tested],
    }


def _timing(measure: Timing, device: torch.device) -> dict[str, Any]:
    """One task and one query image a class, images in memory (Appendix C.5); the images are random."""
    run = measure.run
    shape, episodes = random_episodes(run, 1, 1, device)
    model = run.build(shape).to(device)
    seconds: list[float] = []
    for _ in range(_WARM_UP + measure.batches):
        begun = time.perf_counter()
        if measure.what == "training":
            model.zero_grad()
            meta_gradient(model, episodes, run.inner.rule())
        else:
            with torch.no_grad():
                run.inner.test_rule()(model, episodes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    del seconds[:_WARM_UP]
    return {"mean": statistics.fmean(seconds), "median": statistics.median(seconds), "batches": len(seconds)}


def random_episodes(run: Spec, tasks: int, query: int, device: torch.device) -> tuple[tuple[int, int, int], Episodes]:
    """Noise in the shape of a run's images, (c, h, w), and as episodes with `query` query images a class."""
    channels = data_set(run.problem.data).channels or 3
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(
            tasks, run.problem.way * count, run.problem.size, run.problem.size, channels, generator=generator
        ).movedim(-1, 2)
        return x.to(device), torch.arange(run.problem.way, device=device).repeat_interleave(count).expand(tasks, -1)

    return (channels, run.problem.size, run.problem.size), Episodes(*part(run.problem.shot), *part(query))
