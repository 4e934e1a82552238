"""The settings of a run, as one frozen value: two runs are the same run where these are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from torch import Generator, nn

from innerloop import algorithms, models
from innerloop.inner import InnerLoop
from innerloop.norm import TaskNorm
from innerloop.predictors import NIL, Predictor

Algorithm = Literal["maml", "fomaml", "anil", "boil", "nil", "multitask", "multiclass"]


@dataclass(frozen=True)
class Spec:
    """Everything that decides a run's numbers. Learning rates are for a loss that is a mean over items."""

    data: str = "glyphs"
    """glyphs, omniglot, mini-imagenet, or a folder with one sub-folder of images a class"""
    algorithm: Algorithm = "anil"
    """what adapts in the inner loop: all (maml, fomaml), the head (anil), all but the head (boil); or no inner loop:
    cosine to the support features (nil), one head for all tasks (multitask), or for all classes (multiclass)"""
    adapt: tuple[str, ...] = ()
    """instead of the algorithm's choice: shell patterns over parameter names, "!" takes names away again"""
    way: int = 5
    """classes of a task"""
    shot: int = 1
    """support images a class"""
    query: int = 15
    """query images a class in training and validation"""
    tasks: int = 4
    """tasks of a meta batch"""
    steps: int = 5
    """inner steps in training"""
    lr: float = 0.05
    """inner learning rate"""
    meta_lr: float = 1e-3
    """Adam's learning rate in the outer loop"""
    clip: float | None = None
    """clip each element of the meta-gradient to [-clip, clip]"""
    iterations: int = 10_000
    """meta-training steps; 0 leaves the first weights as they are (random features)"""
    body: str = ""
    """a trained run, or a run beside this one, whose network without its head is taken and stays as it is: only the
    head is trained"""
    keep: int = 0
    """iterations between checkpoints that are kept for later analyses; 0 keeps none"""
    network: Literal["conv4", "resnet12"] = "conv4"
    """the network's kind"""
    width: int = 32
    """filters of conv4; resnet12 has its usual 64, 160, 320, 640 at 64"""
    pooling: Literal["max", "stride"] = "max"
    """how a block of conv4 halves its image"""
    halvings: int = 4
    """how many of the four blocks halve their image: the first ones (conv4)"""
    spatial_mean: bool = False
    """average the last layer over space instead of flattening it (conv4)"""
    head_std: float | None = None
    """draw the head's first weights from a normal distribution instead of Xavier's (conv4)"""
    norm_scale: bool = True
    """whether the norm has a scale besides its shift"""
    norm_eps: float = 1e-5
    """added to the variance"""
    norm_adapts: bool = False
    """whether the inner loop adapts the norm's shift and scale"""
    size: int = 84
    """pixels a side of an image"""
    split: str = ""
    """of omniglot: reference or official; of a folder: a split file; else empty"""
    seed: int = 0
    """of the first weights and the training episodes"""
    val_every: int = 500
    """iterations between validations, which choose the best checkpoint"""
    val_episodes: int = 100
    """episodes of a validation, the same each time"""
    log_every: int = 10
    """iterations averaged into one line of metrics"""
    test_episodes: int = 600
    """episodes of the test, the same for every run on this data"""
    test_query: int | None = None
    """query images a class in the test; as many as shots if not given"""
    test_steps: int = 10
    """inner steps in the test and in validation"""

    def __post_init__(self) -> None:
        counts = ("way", "shot", "query", "tasks", "val_every", "val_episodes", "log_every", "width")
        for name in (*counts, "test_episodes", "test_query", "size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("steps", "test_steps", "iterations", "keep"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("lr", "meta_lr", "clip", "head_std", "norm_eps"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.meta_lr > 1e37:  # Adam divides it by 0.1 in its first step, in single precision
            raise ValueError(f"meta_lr must be at most 1e37, got {self.meta_lr}")
        if not 0 <= self.halvings <= 4:
            raise ValueError(f"halvings must be 0 to 4, since conv4 has four blocks, got {self.halvings}")
        if self.body and self.algorithm != "anil":
            raise ValueError(f"only the head is trained on another run's body: --algorithm anil, not {self.algorithm}")

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return digest(self)

    @property
    def title(self) -> str:
        """A readable name, such as omniglot-20way-1shot-anil-seed0."""
        data = self.data.rstrip("/").rpartition("/")[2]
        kind = "random" if self.iterations == 0 else "head" if self.body else self.algorithm
        return f"{data}-{self.way}way-{self.shot}shot-{kind}-seed{self.seed}"

    @property
    def name(self) -> str:
        """The title and the key."""
        return f"{self.title}-{self.key}"

    @property
    def folder(self) -> str:
        """A name for the run's folder that it keeps when it is made longer."""
        return f"{self.title}-{replace(self, iterations=Spec.iterations).key}"

    def rule(self) -> InnerLoop:
        """The inner loop in training; none for nil, multitask and multiclass."""
        if self.algorithm in ("nil", "multitask", "multiclass"):
            return InnerLoop((), 0)
        rule = getattr(algorithms, self.algorithm)(self.steps, self.lr)
        patterns = self.adapt or rule.adapt
        frozen = () if self.norm_adapts or self.adapt or self.algorithm == "anil" else ("!*norm*",)
        return replace(rule, adapt=(*patterns, *frozen))

    def test_rule(self) -> InnerLoop:
        """The inner loop in validation and test; none for nil, multitask and multiclass."""
        rule = self.rule()
        return replace(rule, steps=self.test_steps) if rule.adapt else rule

    def predictor(self) -> Predictor:
        """What is trained."""
        return NIL(way=self.way) if self.algorithm == "nil" else self.rule()

    def test_predictor(self) -> Predictor:
        """What validation and test use: the inner loop, or NIL where there is none."""
        rule = self.test_rule()
        return rule if rule.adapt else NIL(way=self.way)

    def build(self, shape: tuple[int, int, int], *, way: int | None = None) -> nn.Sequential:
        """The network for images of `shape`, (c, h, w), with its first weights drawn from `seed`.

        Raises:
            ValueError: the images are too small.
        """
        channels, size, _ = shape
        way = way or self.way
        norm = partial(TaskNorm, scale=self.norm_scale, eps=self.norm_eps)
        generator = Generator().manual_seed(self.seed)
        if self.network == "resnet12":
            widths = tuple(round(width * self.width / 64) for width in (64, 160, 320, 640))
            return models.resnet12(way, channels=channels, size=size, widths=widths, norm=norm, generator=generator)
        return models.conv4(
            way,
            channels=channels,
            size=size,
            width=self.width,
            pooling=self.pooling,
            halvings=self.halvings,
            norm=norm,
            spatial_mean=self.spatial_mean,
            head_std=self.head_std,
            generator=generator,
        )


ADDED: dict[str, Any] = {"halvings": 4}
"""Settings that came after the first runs were kept by name, with the values that runs without them have."""


def digest(settings: Any) -> str:
    """Eight hexadecimal digits that name a dataclass; settings `ADDED` later do not change the names before them."""

    def named(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in items if key not in ADDED or value != ADDED[key]}

    text = json.dumps(asdict(settings, dict_factory=named))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def as_dict(spec: Spec) -> dict[str, Any]:
    """As JSON holds it: lists for tuples."""
    return json.loads(json.dumps(asdict(spec)))


def from_dict(values: dict[str, Any]) -> Spec:
    """Back from JSON.

    Raises:
        ValueError: a setting is unknown, as one of a newer version is.
    """
    unknown = set(values) - {field.name for field in fields(Spec)}
    if unknown:
        raise ValueError(f"unknown settings {', '.join(sorted(unknown))}: written by another version of innerloop")
    return Spec(**{**values, "adapt": tuple(values.get("adapt", ()))})
