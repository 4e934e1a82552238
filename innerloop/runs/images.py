"""Few-shot images as a problem for the trainer: episodes of a data set, an inner loop, accuracy on classes unseen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import torch
from torch import Tensor, nn

from innerloop.data import Splits, data_set
from innerloop.data.bank import Bank
from innerloop.data.episodes import EpisodeStream, LabelledStream
from innerloop.device import pick_device
from innerloop.evaluation import Score, evaluate
from innerloop.norm import describe_statistics
from innerloop.outer import Step, meta_train
from innerloop.parallel.captured import Captured
from innerloop.parallel.ranks import RankedStep, Ranks, lead_or_follow
from innerloop.parallel.recorded import RecordedPredictor
from innerloop.parallel.step import Measured, OuterStep
from innerloop.parallel.together import Together
from innerloop.params import chosen
from innerloop.predictors import NIL, Predictor
from innerloop.progress import watched
from innerloop.runs.checkpoint import load_checkpoint, load_weights, pack_optimizer, unpack_optimizer
from innerloop.runs.config import FewShot, Spec
from innerloop.runs.folder import Stop
from innerloop.runs.load import best_of
from innerloop.runs.means import Compute, Source
from innerloop.runs.problem import Validation
from innerloop.runs.schedule import Logging
from innerloop.runs.sources import classes_of, open_data
from innerloop.runs.together import Outcome, train_together
from innerloop.runs.trainer import Training, finished, train, training

Stepper = Callable[[OuterStep], Callable[[int], Measured]]
"""Makes of an outer step what takes it by its number: alone, over several ranks, with other seeds."""


def train_images(
    spec: Spec, out: Path, compute: Compute | None = None, source: Source | None = None, logging: Logging | None = None
) -> dict[str, Any]:
    """Meta-train as `spec` says in the folder `out`, going on where an earlier start of it stopped; then test.

    The folder holds what `trainer.train` says; the content of result.json is returned.

    Raises:
        ValueError: the folder holds another run, the data does not fit the settings, or the loss diverged.
        OSError: the folder cannot be written, or the disk is full; the last checkpoint stays good.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    how, lies = compute or Compute(), source or Source()

    def ranked(ranks: Ranks, device: str, known: Mapping[str, Any] | None = None) -> FewShotImages | None:
        ranks.check_tasks(1 if spec.inner.algorithm == "multiclass" else spec.outer.meta_batch)
        same = {"settings": spec.key, "torch": torch.__version__}
        own = replace(how, device=device)
        return ranks.start(lambda known: FewShotImages(spec, out, own, lies, known, ranks.stepper), same, known)

    def lead(ranks: Ranks | None, device: str) -> dict[str, Any]:
        def start(known: Mapping[str, Any]) -> FewShotImages:
            problem = ranked(ranks, device, known) if ranks else FewShotImages(spec, out, how, lies, known)
            assert problem  # rank 0 has something to train
            return problem

        return train(start, spec.schedule, out, spec.as_json(), logging)

    def follow(ranks: Ranks, device: str) -> None:
        if problem := ranked(ranks, device):
            problem.follow()

    return lead_or_follow(how.device, lead, follow)


def train_images_together(
    specs: Sequence[Spec],
    folders: Sequence[Path],
    compute: Compute | None = None,
    source: Source | None = None,
    logging: Logging | None = None,
) -> list[Outcome]:
    """As `train_images` for runs that differ in their seed alone: they take their steps as one.

    Returns:
        Each run's result, or what it raised.

    Raises:
        ValueError: they differ in more than the seed, or stand at different iterations (`Apart`).
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    if len({replace(spec, seed=0) for spec in specs}) > 1:
        raise ValueError("only runs that differ in nothing but their seed train as one")
    how, lies = compute or Compute(), source or Source()
    company = Together(how.capture)

    def made(spec: Spec, out: Path) -> Callable[[Stop], Training]:
        def start(known: Mapping[str, Any]) -> FewShotImages:
            return FewShotImages(spec, out, how, lies, known, company.join)

        return lambda stop: training(start, spec.schedule, out, spec.as_json(), logging, stop)

    return train_together([made(*each) for each in zip(specs, folders, strict=True)])


def result_of(spec: Spec, out: Path) -> dict[str, Any] | None:
    """The result of a run that is finished; None of one that is not, or of another one; see `trainer.finished`."""
    result = finished(out, spec.as_json())
    try:
        msgspec.convert(result["test"] if result else {}, dict[str, Tested])
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{out / 'result.json'} is damaged (test: {error}). Delete it and give the same command again: the weights "
            "lie in files of their own."
        ) from None
    return result


class Tested(TypedDict):
    """A score as JSON, in fractions."""

    accuracy: float
    interval: float | None  # half of the 95 % interval; not known of one episode
    episodes: int
    statistics: str  # whose normalised the query sets
    per_step: list[float]  # accuracy after 0, 1, ... inner steps


class FewShotImages:
    """A `Problem`: few-shot classification of images by any of the algorithms of `Spec`.

    Args:
        spec: the settings.
        out: the run's folder; a body to train a head on may lie beside it.
        compute: the device.
        source: where the images lie.
        known: the metadata of an earlier start, whose classes and source are gone on with.
        stepper: makes what takes its steps; by default alone, and captured as `compute` says.

    Raises:
        FileNotFoundError: the data or the body is not there.
        ValueError: the data does not fit the settings.
    """

    remedy = "try a lower --lr, --meta-lr or --clip"

    def __init__(
        self,
        spec: Spec,
        out: Path,
        compute: Compute,
        source: Source,
        known: Mapping[str, Any],
        stepper: Stepper | None = None,
    ) -> None:
        self.spec, self.title = spec, spec.title
        problem, device = spec.problem, pick_device(compute.device)
        _check_adapts(spec)
        source = source.or_where_it_was(known)
        data = open_data(problem, source, known.get("classes"), channels=known.get("shape", (None,))[0]).to(device)
        data_set(problem.data).check(data, problem.way, problem.shot, min(problem.query, problem.queries))
        self.network = first_weights(spec, data, out).to(device)
        # On a GPU Adam's step count stays there, so that no step waits for it.
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self._adam = torch.optim.Adam(trained, spec.outer.meta_lr, capturable=device.type == "cuda")
        self._chunk_size, self._shape = compute.chunk_size, data.train.shape
        self._source, self._classes = source.wherever_one_is(), _with_earlier(classes_of(data, problem), known)
        self._training = training_stream(data.train, spec)
        self._validation = test_stream(data.val, problem, problem.val_episodes, problem.query)
        self._test = test_stream(data.test, problem, problem.test_episodes, problem.queries)
        self._steps: Iterator[Step] | None = None
        rule = spec.inner.test_predictor(problem.way)
        self._validator = RecordedPredictor(rule) if compute.capture == "auto" else rule
        self._take: Callable[[int], Measured] | None = None  # by its number, where `meta_train` is not what steps
        if stepper or (device.type == "cuda" and compute.capture == "auto"):
            predictor, chunk = spec.inner.predictor(problem.way), compute.chunk_size
            step = OuterStep(self.network, self._training, predictor, self._adam, spec.outer.clip, chunk)
            self._take = (stepper or Captured)(step)
        torch.manual_seed(spec.seed)

    def step(self, number: int) -> dict[str, Tensor]:
        """Loss and accuracy on the query images, before the update."""
        if self._take:
            return self._take(number - 1)
        if self._steps is None:
            predictor, clip = self.spec.inner.predictor(self.spec.problem.way), self.spec.outer.clip
            batches = (self._training[i] for i in range(number - 1, len(self._training)))
            self._steps = meta_train(
                self.network, batches, predictor, self._adam, clip=clip, chunk_size=self._chunk_size
            )
        step = next(self._steps)
        assert step.accuracy is not None
        return {"loss": step.loss, "accuracy": step.accuracy}

    def follow(self) -> None:
        """In a rank that does not lead: take the steps that rank 0 orders, until it stops."""
        assert isinstance(self._take, RankedStep)
        self._take.follow()

    def validate(self) -> Validation:
        """Accuracy on the validation's episodes, the same each time."""
        score = evaluate(self.network, self._validation, self._validator, chunk_size=self._chunk_size, every_step=False)
        return Validation(score.mean, {"val_accuracy": score.mean, "val_interval": number(score.interval)})

    def test(self) -> dict[str, Any]:
        """Scores with its own inner loop, if it has one, and with NIL."""
        rule = self.spec.inner.test_rule()
        predictors: dict[str, Predictor] = {self.spec.inner.algorithm: rule} if rule.adapt else {}
        predictors |= {"nil": NIL(way=self.spec.problem.way, statistics=self.spec.inner.statistics)}
        return {
            name: score_dict(
                evaluate(self.network, watched(self._test, f"test, {name}"), predictor, chunk_size=self._chunk_size)
            )
            for name, predictor in predictors.items()
        }

    def state(self) -> dict[str, Tensor]:
        """Adam's moments, and the generator that dropout draws from."""
        adam = {f"adam.{name}": value for name, value in pack_optimizer(self._adam).items()}
        return adam | {"random": torch.get_rng_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put them back."""
        adam = {name.removeprefix("adam."): value for name, value in state.items() if name.startswith("adam.")}
        unpack_optimizer(self._adam, adam)
        torch.set_rng_state(state["random"])

    def metadata(self) -> dict[str, Any]:
        """Settings, the shape of an image, the classes of each part of a folder, and where the data lay."""
        more = {"shape": self._shape, "classes": self._classes, "source": self._source}
        return {
            "spec": self.spec.as_json(),
            "statistics": describe_statistics(self.network, self.spec.inner.statistics),
            **more,
        }


def _with_earlier(classes: dict[str, list[str]], known: Mapping[str, Any]) -> dict[str, list[str]]:
    """A class that was trained on stays one."""
    trained = {*known.get("classes", {}).get("train", ()), *classes.get("train", ())}
    return classes | {"train": sorted(trained)} if trained else classes


def _check_adapts(spec: Spec) -> None:
    """A wrong pattern is told before the images are decoded."""
    size = spec.problem.size
    chosen(spec.build((1, size, size)), spec.inner.rule().adapt)


def first_weights(spec: Spec, data: Splits, out: Path) -> nn.Sequential:
    """The network before its training in the folder `out`; only what is to be trained asks for gradients.

    Raises:
        FileNotFoundError: there is no trained run to take the body from.
        ValueError: its body does not fit.
    """
    model = spec.build(data.train.shape, way=len(data.train) if spec.inner.algorithm == "multiclass" else None)
    if not spec.inner.body:
        return model
    beside = out.parent / spec.inner.body
    body = beside if beside.exists() else Path(spec.inner.body).expanduser()
    if body.is_dir() and not (body / "result.json").exists():
        raise FileNotFoundError(f"the run {body} is not finished, and a head needs its whole body: finish it first")
    path = best_of(body)
    theirs = {name: value for name, value in load_checkpoint(path).tensors.items() if not name.startswith("head.")}
    ours = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    load_weights(model, theirs | ours, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    return model


def training_stream(bank: Bank, spec: Spec) -> EpisodeStream | LabelledStream:
    """The batches of every training step; for multiclass, as many images a batch as the episodes would hold."""
    problem, tasks, iterations = spec.problem, spec.outer.meta_batch, spec.schedule.iterations
    if spec.inner.algorithm == "multiclass":
        images = tasks * problem.way * (problem.shot + problem.query)
        return LabelledStream(bank, images, count=iterations, seed=spec.seed)
    # A stream has at least one batch, which a run of no iterations does not draw.
    count = max(iterations, 1)
    return bank.episodes(problem.way, problem.shot, problem.query, tasks=tasks, count=count, seed=spec.seed)


def test_stream(bank: Bank, problem: FewShot, episodes: int, query: int) -> EpisodeStream:
    """`episodes` episodes that are the same for every run; in batches, which change nothing."""
    tasks = max(n for n in range(1, 26) if episodes % n == 0)
    return bank.episodes(problem.way, problem.shot, query, tasks=tasks, count=episodes // tasks)


def score_dict(score: Score) -> Tested:
    """A score for JSON."""
    return {
        "accuracy": score.mean,
        "interval": number(score.interval),
        "episodes": score.values.shape[1],
        "statistics": score.statistics,
        "per_step": [mean for mean, _ in score.per_step],
    }


def number(value: float) -> float | None:
    """For JSON, which has no NaN: what is not known, as the interval of a single episode, is null."""
    return None if math.isnan(value) else value
