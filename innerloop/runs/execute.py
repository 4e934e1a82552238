"""Meta-training that survives: killed at any moment and started again, it ends in the same bits."""

from __future__ import annotations

import json
import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from innerloop.data import NAMES, Splits, load
from innerloop.data.episodes import EpisodeStream, ImageBank, LabelledStream
from innerloop.data.files import listed
from innerloop.data.mini_imagenet import HUB
from innerloop.device import device_name, pick_device, repeatable
from innerloop.evaluation import Score, evaluate
from innerloop.outer import meta_train
from innerloop.params import chosen
from innerloop.predictors import NIL, Predictor
from innerloop.runs.checkpoint import load_checkpoint, load_weights, write_whole
from innerloop.runs.config import ADDED, Spec, as_dict
from innerloop.runs.folder import Stop, claimed, read_json
from innerloop.runs.load import Learner, best_of
from innerloop.runs.progress import Display
from innerloop.runs.state import Run, number


@dataclass(frozen=True)
class How:
    """Where and how a run is computed; none of it changes what is learnt."""

    device: str = "auto"
    """cpu, cuda, or the best there is"""
    chunk_size: int | None = None
    """tasks in memory at once; fewer need less memory"""
    source: str | None = None
    """where omniglot or mini-imagenet lies: a folder; for mini-imagenet also hf://owner/name on Hugging Face. A run
    remembers it"""
    skip_bad: bool = False
    """leave damaged images and small classes of a folder out"""


@dataclass(frozen=True)
class Writes:
    """What a run writes while it trains."""

    checkpoint_seconds: float = 30.0
    """seconds between checkpoints; a kill costs at most these"""
    tensorboard: bool = False
    """write TensorBoard events into the run's folder too (needs the extra `track`)"""


class Interrupted(Exception):
    """The run stopped on request, in a state that goes on."""


def train(spec: Spec, out: Path, how: How, writes: Writes | None = None) -> dict[str, Any]:
    """Meta-train as `spec` says in the folder `out`, going on where an earlier start of it stopped; then test.

    A run can be made longer: started again with more iterations, it goes on from its last one.

    The folder holds spec.json, last.safetensors (all that a resumed run needs), best.safetensors (the weights that
    validation chose), at-N.safetensors (the weights after N iterations, as `keep` asks for), metrics.jsonl and, once
    tested, result.json, whose content is returned.

    Raises:
        ValueError: the folder holds another run, the data does not fit the settings, or the loss diverged.
        OSError: the folder cannot be written, or the disk is full; the last checkpoint stays good.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    with claimed(out, as_dict(spec)), repeatable():
        if result := result_of(spec, out):
            return result
        device = pick_device(how.device)
        _check_adapts(spec)
        last = out / "last.safetensors"
        metadata = load_checkpoint(last).metadata if last.exists() else {}
        how = _from_where_it_was(how, metadata)
        data = open_data(spec, how, metadata.get("classes"), channels=metadata.get("shape", (None,))[0]).to(device)
        _check_ways(data, spec)
        model = first_weights(spec, data, out).to(device)
        # On a GPU Adam's step count stays there, so that no step waits for it.
        trained = [p for p in model.parameters() if p.requires_grad]
        adam = torch.optim.Adam(trained, spec.meta_lr, capturable=device.type == "cuda")
        source, classes = _wherever_one_is(how.source), classes_of(data, spec)
        run = Run(spec, out, data.train.shape, model, adam, classes=classes, source=source)
        _train(run, data, how, writes or Writes())
        result = _test(run, data, how)
        write_whole(out / "result.json", json.dumps(result, indent=1).encode())
        return result


def result_of(spec: Spec, out: Path) -> dict[str, Any] | None:
    """The result of a run that is finished; None of one that is not, or of another one.

    Raises:
        ValueError: the file is damaged.
    """
    path = out / "result.json"
    result = read_json(path) if path.exists() else {}
    return result if {**ADDED, **result.get("spec", {})} == as_dict(spec) else None


def _check_adapts(spec: Spec) -> None:
    """A wrong pattern is told before the images are decoded."""
    chosen(spec.build((1, spec.size, spec.size)), spec.rule().adapt)


def _check_ways(data: Splits, spec: Spec) -> None:
    counts = [len(bank) for bank in data]
    if min(counts) < spec.way:
        raise ValueError(
            f"{data.train.name.removesuffix('/train')} has {sum(counts)} classes, split {'/'.join(map(str, counts))} "
            f"into train/val/test; {spec.way}-way needs {spec.way} in each: "
            f"lower --way{'' if spec.data in NAMES else ' or give --split FILE'}"
        )


def _train(run: Run, data: Splits, how: How, writes: Writes) -> None:
    spec, out, model = run.spec, run.out, run.model
    stream = training_stream(data.train, spec)
    validation = test_stream(data.val, spec, spec.val_episodes, spec.query)
    _test_episodes(data, spec)  # complain about the test before the training, not after
    torch.manual_seed(spec.seed)
    run.restore()
    if run.iteration > spec.iterations:
        raise ValueError(
            f"{out} is past iteration {spec.iterations}, at {run.iteration}; ask for more, or choose another --out"
        )
    remaining = (stream[i] for i in range(run.iteration, spec.iterations))
    begun, saved = time.monotonic() - run.seconds, time.monotonic()
    with (
        open(out / "metrics.jsonl", "ab") as metrics,
        Display(spec.title, spec.iterations, run.iteration, out if writes.tensorboard else None) as display,
        Stop() as stop,
    ):
        if run.iteration == spec.iterations and run.best < 0:  # nothing to train, or the best checkpoint is lost
            run.validated(_validate(run, validation, how), metrics)
        for step in meta_train(model, remaining, spec.predictor(), run.adam, clip=spec.clip, chunk_size=how.chunk_size):
            run.advance(step)
            run.seconds = time.monotonic() - begun
            last = run.iteration == spec.iterations
            if run.iteration % spec.log_every == 0 or last:
                display.trained(run.iteration, *run.log(metrics))
            validates = run.iteration % spec.val_every == 0 or last
            if validates:
                run.check_finite()
                score = _validate(run, validation, how)
                run.validated(score, metrics)
                display.validated(run.iteration, score.mean)
            if spec.keep and run.iteration % spec.keep == 0:
                run.keep()
            if validates or stop.asked or time.monotonic() - saved > writes.checkpoint_seconds:
                run.save(metrics)
                saved = time.monotonic()
            if stop.asked:
                raise Interrupted(f"stopped after iteration {run.iteration} of {spec.iterations}, saved in {out}")


def _validate(run: Run, stream: EpisodeStream, how: How) -> Score:
    return evaluate(run.model, stream, run.spec.test_predictor(), chunk_size=how.chunk_size, every_step=False)


def _test(run: Run, data: Splits, how: How) -> dict[str, Any]:
    """Test the best checkpoint with its own rule and with NIL."""
    spec, path = run.spec, run.out / "best.safetensors"
    load_weights(run.model, load_checkpoint(path).tensors, path)
    stream = _test_episodes(data, spec)
    predictors: dict[str, Predictor] = {spec.algorithm: spec.test_rule()} if spec.test_rule().adapt else {}
    predictors |= {"nil": NIL(way=spec.way)}
    scores = {name: evaluate(run.model, stream, rule, chunk_size=how.chunk_size) for name, rule in predictors.items()}
    validations = max(-(-spec.iterations // spec.val_every), 1)
    return {
        "spec": as_dict(spec),
        "test": {name: score_dict(score) for name, score in scores.items()},
        "selection": f"best of {validations} validations of {spec.val_episodes} episodes",
        "best_at": run.best_at,
        "val_accuracy": run.best,
        "train_seconds": round(run.seconds, 1),
        "device": device_name(next(run.model.parameters()).device),
        "torch": torch.__version__,
    }


def classes_of(data: Splits, spec: Spec) -> dict[str, list[str]]:
    """The classes of each part of a folder, which may change; those of a data set with a name do not."""
    return {} if spec.data in NAMES else {part: list(bank.classes) for part, bank in data._asdict().items()}


def open_data(
    spec: Spec, how: How, known: dict[str, list[str]] | None = None, *, channels: int | None = None
) -> Splits:
    """The three banks of a run, on the CPU; a folder is split as it was when its classes were `known`.

    Its images are made grey or RGB where `channels` asks for it; else they are grey if all of them are.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged or does not fit the settings, or what was trained on would be tested.
    """
    options: dict[str, Any] = {"size": spec.size}
    if spec.data not in NAMES:
        options["way"] = spec.way
    if spec.split:
        options["split"] = spec.split
    if how.source is not None:
        options["source"] = how.source
    if how.skip_bad:
        options["skip_bad"] = True
    if spec.data not in NAMES:
        options["known"] = known
    data = load(spec.data, **options)
    if spec.data not in NAMES and channels not in (None, data.train.shape[0]):
        data = load(spec.data, **options, grey=channels == 1)
    if known:
        _check_moved(spec, known, data)
    return data


def _check_moved(spec: Spec, known: dict[str, list[str]], data: Splits) -> None:
    trained, chosen_by = set(known["train"]), set(known["val"])
    moved = trained & {*data.val.classes, *data.test.classes} or chosen_by & set(data.test.classes)
    if moved:
        raise ValueError(
            f"{spec.data} has classes to validate or test that this run was trained or validated on: "
            f"{listed(sorted(moved))}. Put them back where they were, or train anew with another --out."
        )


def data_named(what: str) -> str:
    """A data set's name as it is, a folder's as its whole path."""
    return what if what in NAMES or not Path(what).expanduser().exists() else whole_path(what)


def whole_path(path: str) -> str:
    """The same wherever one is; unlike with `Path.resolve`, links stay links."""
    return os.path.abspath(Path(path).expanduser())


def bank_for(learner: Learner, asked: Spec, how: How, part: str) -> ImageBank:
    """The images of a part (train, val, test) of what `asked` names, on the CPU, as the network takes them.

    The data of its own run are looked for where the run found them, if `how` names no source.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: it is damaged, was trained on, or has other shapes than the network takes.
    """
    own, known = asked.data == learner.spec.data, learner.metadata.get("classes") or {}
    if own:
        how = _from_where_it_was(how, learner.metadata)
    data = open_data(asked, how, known if own else None, channels=learner.shape[0])
    bank: ImageBank = getattr(data, part)
    trained = set(known.get("train", ())) & set(bank.classes)
    if not own and asked.data not in NAMES and trained:
        warnings.warn(
            f"{len(trained)} of the {len(bank)} classes of {bank.name} are called as classes that this run was trained "
            f"on ({listed(sorted(trained))}): if they are, this is no test of new classes",
            stacklevel=2,
        )
    if bank.shape != learner.shape:
        raise ValueError(f"the network takes images of {learner.shape} (c, h, w), {bank.name} has {bank.shape}")
    return bank


def _from_where_it_was(how: How, metadata: dict[str, Any]) -> How:
    """With the source that a checkpoint remembers, if none is given and it is still there."""
    source: str | None = metadata.get("source")
    there = source is not None and (source.startswith(HUB) or Path(source).exists())
    return replace(how, source=source) if how.source is None and there else how


def _wherever_one_is(source: str | None) -> str | None:
    return source if source is None or source.startswith(HUB) else whole_path(source)


def first_weights(spec: Spec, data: Splits, out: Path) -> nn.Sequential:
    """The network before its training in the folder `out`; only what is to be trained asks for gradients.

    Raises:
        FileNotFoundError: there is no trained run to take the body from.
        ValueError: its body does not fit.
    """
    model = spec.build(data.train.shape, way=len(data.train) if spec.algorithm == "multiclass" else None)
    if not spec.body:
        return model
    beside = out.parent / spec.body
    body = beside if beside.exists() else Path(spec.body)
    if body.is_dir() and not (body / "result.json").exists():
        raise FileNotFoundError(f"the run {body} is not finished, and a head needs its whole body: finish it first")
    path = best_of(body)
    theirs = {name: value for name, value in load_checkpoint(path).tensors.items() if not name.startswith("head.")}
    ours = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    load_weights(model, theirs | ours, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    return model


def training_stream(bank: ImageBank, spec: Spec) -> EpisodeStream | LabelledStream:
    """The batches of every training step; for multiclass, as many images a batch as the episodes would hold."""
    if spec.algorithm == "multiclass":
        images = spec.tasks * spec.way * (spec.shot + spec.query)
        return LabelledStream(bank, images, count=spec.iterations, seed=spec.seed)
    # A stream has at least one batch, which a run of no iterations does not draw.
    count = max(spec.iterations, 1)
    return bank.episodes(spec.way, spec.shot, spec.query, tasks=spec.tasks, count=count, seed=spec.seed)


def test_stream(bank: ImageBank, spec: Spec, episodes: int, query: int) -> EpisodeStream:
    """`episodes` episodes that are the same for every run; in batches, which change nothing."""
    tasks = max(n for n in range(1, 26) if episodes % n == 0)
    return bank.episodes(spec.way, spec.shot, query, tasks=tasks, count=episodes // tasks)


def _test_episodes(data: Splits, spec: Spec) -> EpisodeStream:
    return test_stream(data.test, spec, spec.test_episodes, spec.test_query or spec.shot)


def score_dict(score: Score) -> dict[str, Any]:
    """A score for JSON, in fractions."""
    return {
        "accuracy": score.mean,
        "interval": number(score.interval),
        "episodes": score.values.shape[1],
        "statistics": score.statistics,
        "per_step": [mean for mean, _ in score.per_step],
    }
