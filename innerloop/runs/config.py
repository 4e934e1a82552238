"""The settings of a run on few-shot images, a frozen value a room: two runs are the same where these are equal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from innerloop.choices import HeadStart, Statistics
from innerloop.runs import settings
from innerloop.runs.schedule import Schedule
from innerloop.runs.settings import above_zero, at_least

if TYPE_CHECKING:  # settings are read without torch; what they build imports it
    from torch import nn

    from innerloop.inner import InnerLoop
    from innerloop.predictors import Predictor

Algorithm = Literal["maml", "fomaml", "anil", "boil", "nil", "multitask", "multiclass"]
WITHOUT_INNER_LOOP = ("nil", "multitask", "multiclass")


@dataclass(frozen=True)
class FewShot:
    """The problem: what is classified, and how many examples of it there are."""

    data: str = "glyphs"
    """glyphs, omniglot, mini-imagenet, or a folder with one sub-folder of images a class"""
    size: int = 84
    """pixels a side of an image"""
    split: str = ""
    """of omniglot: reference or official; of a folder: a split file; else empty"""
    group_by: str = ""
    """of a folder, which images show the same (a patient, a film, a physical sign) and never stand on both sides of a
    task: a template for file names such as {group}_*, a regular expression with one group, or a csv table"""
    way: int = 5
    """classes of a task"""
    shot: int = 1
    """support images a class"""
    query: int = 15
    """query images a class in training and validation"""
    val_episodes: int = 100
    """episodes of a validation, the same each time"""
    test_episodes: int = 600
    """episodes of the test, the same for every run on this data"""
    test_query: int | None = None
    """query images a class in the test; as many as shots if not given"""

    def __post_init__(self) -> None:
        at_least(1, self, "size", "way", "shot", "query", "val_episodes", "test_episodes", "test_query")

    @property
    def queries(self) -> int:
        """Query images a class in the test."""
        return self.test_query or self.shot


@dataclass(frozen=True)
class Model:
    """The network."""

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

    def __post_init__(self) -> None:
        at_least(1, self, "width")
        above_zero(self, "head_std", "norm_eps")
        if not 0 <= self.halvings <= 4:
            raise ValueError(f"halvings must be 0 to 4, since conv4 has four blocks, got {self.halvings}")

    def build(self, shape: tuple[int, int, int], way: int, seed: int) -> nn.Sequential:
        """The network for images of `shape`, (c, h, w), with `way` outputs and first weights drawn from `seed`.

        Raises:
            ValueError: the images are too small.
        """
        from torch import Generator

        from innerloop import models
        from innerloop.norm import TaskNorm

        channels, size, _ = shape
        norm = partial(TaskNorm, scale=self.norm_scale, eps=self.norm_eps)
        generator = Generator().manual_seed(seed)
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


@dataclass(frozen=True)
class Inner:
    """The algorithm: what adapts to a task, and how far. Learning rates are for a loss that is a mean over items."""

    algorithm: Algorithm = "anil"
    """what adapts in the inner loop: all (maml, fomaml), the head (anil), all but the head (boil); or no inner loop:
    cosine to the support features (nil), one head for all tasks (multitask), or for all classes (multiclass)"""
    adapt: tuple[str, ...] = ()
    """instead of the algorithm's choice: shell patterns over parameter names, "!" takes names away again"""
    norm_adapts: bool = False
    """whether the inner loop adapts the norm's shift and scale"""
    steps: int = 5
    """inner steps in training"""
    test_steps: int = 10
    """inner steps in the test and in validation"""
    lr: float = 0.05
    """inner learning rate"""
    head_start: HeadStart = "learnt"
    """what the head starts from in each task: as the outer loop learnt it, zeros, one vector for all classes, or the
    prototypes of the support set"""
    inner_clip: float | None = None
    """clip each element of the inner gradients to [-inner_clip, inner_clip]"""
    first_order: bool = False
    """leave second derivatives out of the meta-gradient"""
    statistics: Statistics = "query"
    """whose statistics normalise a query image, in training and test: the query set's, the support set's, or the
    image's own"""
    body: str = ""
    """a trained run, or a run beside this one, whose network without its head is taken and stays as it is: only the
    head is trained"""

    def __post_init__(self) -> None:
        at_least(0, self, "steps", "test_steps")
        above_zero(self, "lr", "inner_clip")
        how = self.head_start, self.inner_clip, self.first_order
        if self.algorithm in WITHOUT_INNER_LOOP and how != ("learnt", None, False):
            raise ValueError(
                f"{self.algorithm} has no inner loop: leave --head-start, --inner-clip and --first-order out"
            )
        if self.body and self.algorithm != "anil":
            raise ValueError(f"only the head is trained on another run's body: --algorithm anil, not {self.algorithm}")

    def rule(self) -> InnerLoop:
        """The inner loop in training; none for nil, multitask and multiclass."""
        from innerloop import algorithms
        from innerloop.inner import InnerLoop

        if self.algorithm in WITHOUT_INNER_LOOP:
            return InnerLoop((), 0, statistics=self.statistics)
        rule = getattr(algorithms, self.algorithm)(self.steps, self.lr)
        patterns = self.adapt or rule.adapt
        frozen = () if self.norm_adapts or self.adapt or self.algorithm == "anil" else ("!*norm*",)
        return replace(
            rule,
            adapt=(*patterns, *frozen),
            first_order=self.first_order or rule.first_order,
            head_start=self.head_start,
            clip=self.inner_clip,
            statistics=self.statistics,
        )

    def test_rule(self) -> InnerLoop:
        """The inner loop in validation and test; none for nil, multitask and multiclass."""
        rule = self.rule()
        return replace(rule, steps=self.test_steps) if rule.adapt else rule

    def predictor(self, way: int) -> Predictor:
        """What is trained, for tasks of so many ways."""
        return self._nil(way) if self.algorithm == "nil" else self.rule()

    def test_predictor(self, way: int) -> Predictor:
        """What validation and test use: the inner loop, or NIL where there is none."""
        rule = self.test_rule()
        return rule if rule.adapt else self._nil(way)

    def _nil(self, way: int) -> Predictor:
        from innerloop.predictors import NIL

        return NIL(way=way, statistics=self.statistics)


@dataclass(frozen=True)
class Outer:
    """The outer loop: Adam on the meta-gradient."""

    meta_batch: int = 4
    """tasks of a meta batch"""
    meta_lr: float = 1e-3
    """Adam's learning rate in the outer loop"""
    clip: float | None = None
    """clip each element of the meta-gradient to [-clip, clip]"""

    def __post_init__(self) -> None:
        at_least(1, self, "meta_batch")
        above_zero(self, "meta_lr", "clip")
        if self.meta_lr > 1e37:  # Adam divides it by 0.1 in its first step, in single precision
            raise ValueError(f"meta_lr must be at most 1e37, got {self.meta_lr}")


@dataclass(frozen=True)
class Spec:
    """Everything that decides a run's numbers."""

    problem: FewShot = field(default_factory=FewShot)
    model: Model = field(default_factory=Model)
    inner: Inner = field(default_factory=Inner)
    outer: Outer = field(default_factory=Outer)
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    """of the first weights and the training episodes"""

    def where(self, **changes: Any) -> Spec:
        """These settings with some of them changed, by the names of the flags: `spec.where(way=20, lr=0.1)`.

        Raises:
            ValueError: there is no such setting, or it takes no such value.
        """
        return settings.where(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """What differs from the defaults, by name."""
        return settings.as_json(self)

    @staticmethod
    def from_json(values: Any) -> Spec:
        """Back from JSON.

        Raises:
            ValueError: a setting is unknown, as one of another version is, or of another type.
        """
        return settings.from_json(values, Spec())

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return settings.digest(self.as_json())

    @property
    def title(self) -> str:
        """A readable name, such as omniglot-20way-1shot-anil-seed0."""
        data = self.problem.data.rstrip("/").rpartition("/")[2]
        kind = "random" if self.schedule.iterations == 0 else "head" if self.inner.body else self.inner.algorithm
        return f"{data}-{self.problem.way}way-{self.problem.shot}shot-{kind}-seed{self.seed}"

    @property
    def name(self) -> str:
        """The title and the key."""
        return f"{self.title}-{self.key}"

    @property
    def folder(self) -> str:
        """A name for the run's folder that it keeps when it is made longer."""
        return f"{self.title}-{self.where(iterations=Schedule.iterations).key}"

    def build(self, shape: tuple[int, int, int], *, way: int | None = None) -> nn.Sequential:
        """The network for images of `shape`, (c, h, w), before its training; see `Model.build`."""
        return self.model.build(shape, way or self.problem.way, self.seed)
