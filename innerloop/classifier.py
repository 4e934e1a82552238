"""The door for users: learn your own classes from a few labelled images each, with a network that was meta-trained."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.data import data_set
from innerloop.data.episodes import as_floats
from innerloop.data.labelled import as_array, in_order, pairs
from innerloop.data.pictures import as_list, is_light, picture
from innerloop.device import pick_device
from innerloop.frozen import USUAL, Answer, Rule, answering, check_rule
from innerloop.inner import adapt
from innerloop.models import backbone, input_of
from innerloop.norm import check_norms, check_statistics, query_outputs
from innerloop.predictors import NIL
from innerloop.runs.checkpoint import load_checkpoint, save_checkpoint
from innerloop.runs.load import Learner, learner_from, load

Method = Literal["auto", "head", "nil"]

_CHUNK = 64  # query images that run at once


class Learnt(NamedTuple):
    """What a classifier has learnt."""

    network: nn.Sequential  # adapted, where the method is "head"
    images: Tensor  # (s, h, w, c) uint8, as the network was trained on them
    labels: Tensor  # (s,) indices into the classes
    ways: int
    answer: Answer | None = None  # from images to outputs, where a rule compares features


class FewShotClassifier:
    """Learns classes from a few images each: `load` a checkpoint, `fit` labelled images, `predict` others.

    It has the manners of scikit-learn. Images are a sequence, or an array or tensor whose first axis counts them, of
    paths, PIL images, and arrays or tensors (h, w[, c]) or (c, h, w), uint8 or float in [0, 1], in any size. They are
    read as the training data was: 8 bits a channel, grey or RGB, the network's size; the middle square of a photo where
    the network was trained on a folder, all of it, squeezed to a square, where on a named data set. Labels are of any
    hashable kind, and classes may have unequal numbers of images: each class counts the same.

    A network trained on Omniglot or glyphs has seen white ink on black only. So for such a network an image whose
    border is light, as dark ink on paper is, is inverted; `invert` decides it for all images instead.

    Args:
        learner: a trained network, see `load`, or a pretrained one, see `from_backbone`.
        method: "head" runs the inner loop that the network was trained with, with its number of steps at test.
            It takes at most as many classes as the head has outputs; for fewer, the first outputs alone are used.
            "nil" compares features with the labelled images (`NIL`), for any number of classes; its probabilities
            rank classes and are far from 0 and 1. A rule such as `Ridge()` or `Prototypes()` does so in its own way,
            and so does an `InnerLoop` that adapts the head alone. "auto" is "head" where that is possible, and cosine
            `Prototypes` for a pretrained network. `method_` says which.
        statistics: whose normalise an image (`innerloop.norm`). With "support", those of the labelled images,
            or "image", a prediction does not depend on the other images; with "query" it does: all images of
            one call are one batch, so classes should be mixed in it as in a test episode.
        invert: whether to invert every image; None inverts ink on light paper, as said above.
        device: cpu, cuda, or "auto" for the best there is.

    Attributes:
        classes_: the labels, sorted where they can be; in the order of the columns of `predict_proba`.
        method_: "head", "nil", or the rule.

    Raises:
        ValueError: an unknown method or statistics, or no such device.
    """

    classes_: np.ndarray
    method_: Literal["head", "nil"] | Rule

    def __init__(
        self,
        learner: Learner | nn.Sequential,
        *,
        method: Method | Rule = "auto",
        statistics: Statistics = "support",
        invert: bool | None = None,
        device: str = "auto",
    ) -> None:
        if isinstance(learner, str | Path):
            raise ValueError(f"expected a trained network, got a path: use FewShotClassifier.load({str(learner)!r})")
        self.learner, self.method, self.invert, self.device = learner, method, invert, device
        self.statistics: Statistics = statistics
        self._check()
        self._learnt: Learnt | None = None

    def _check(self) -> None:
        method, network = self.method, _network(self.learner)
        if not isinstance(method, str):
            check_rule(method)
        elif method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, or a rule, got {method!r}")
        if isinstance(self.learner, nn.Module):
            input_of(network)
            if method == "head":
                raise ValueError('a pretrained network has no head that was trained to adapt: use method "auto"')
        check_statistics(self.statistics)
        check_norms(network, self.statistics)
        self._device = pick_device(self.device)

    @classmethod
    def from_backbone(
        cls, name: nn.Module | str | Path, *, size: int | None = None, unit: bool = False, **settings: Any
    ) -> Self:
        """From a pretrained network as it is, with no training: a name, a folder, or a module (`models.backbone`).

        Args:
            size: pixels a side; None takes the network's own.
            unit: features of length 1, which `Ridge` and logistic regression are better for.
            settings: as the class takes them.

        Raises:
            FileNotFoundError: it is neither here nor can it be fetched.
            ValueError: it cannot be taken apart, or the settings do not fit.
            ImportError: a package that it needs is not installed.
        """
        return cls(backbone(name, size=size, unit=unit), **settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  scikit-learn's signature
        """What it was made with, as scikit-learn's `clone` and `GridSearchCV` want it."""
        return {name: getattr(self, name) for name in ("learner", "method", "statistics", "invert", "device")}

    def set_params(self, **params: Any) -> Self:
        """Change what it was made with; it must be fitted again.

        Raises:
            ValueError: there is no such parameter, or a value does not fit.
        """
        if unknown := sorted(params.keys() - self.get_params()):
            raise ValueError(f"no parameter {', '.join(unknown)}; there are {', '.join(self.get_params())}")
        before = self.get_params()
        try:
            self.__dict__.update(params)
            self._check()
        except ValueError:
            self.__dict__.update(before)
            raise
        self._learnt = None
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: that it is a classifier, of anything."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        inputs = InputTags(two_d_array=False, string=True)
        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags(), input_tags=inputs)

    def __sklearn_is_fitted__(self) -> bool:
        return self._learnt is not None

    @classmethod
    def load(cls, path: Path | str, **settings: Any) -> Self:
        """From best.safetensors of a run, the run's folder, or what `save` wrote, which need not be fitted again.

        Args:
            settings: as the class takes them; what is not given is as it was saved, or else the default.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut off, or something else.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            return cls(load(path), **settings)
        tensors, metadata = checkpoint = load_checkpoint(path)
        if "classifier" not in metadata:
            return cls(learner_from(checkpoint, path), **settings)
        saved = metadata["classifier"]
        classifier = cls(learner_from(checkpoint, path), **{**saved["settings"], **settings})
        classifier._learn(tensors["support.images"], tensors["support.labels"], saved["classes"])
        return classifier

    def save(self, path: Path | str) -> None:
        """Write the network and the labelled images, as it sees them, to one safetensors file.

        Raises:
            ValueError: it is not fitted, or a label is neither text nor a number, which JSON needs.
            OSError: the file cannot be written.
        """
        learnt = self.learnt()
        if isinstance(self.learner, nn.Module) or not isinstance(self.method, str):
            raise ValueError(
                "save keeps a network that was meta-trained, with a method that has a name; a pretrained one or a rule "
                "is made again by fit, or goes out by innerloop.export"
            )
        classes = self.classes_.tolist()
        if odd := [label for label in classes if not isinstance(label, str | int | float | None)]:
            raise ValueError(f"only labels that are text or numbers can be saved, got {odd[0]!r}")
        tensors = self.learner.model.state_dict()
        tensors |= {"support.images": learnt.images, "support.labels": learnt.labels}
        settings = {"method": self.method, "statistics": self.statistics, "invert": self.invert}
        metadata = {
            key: value for key, value in self.learner.metadata.items() if key != "source"
        }  # others have other disks
        metadata |= {"classifier": {"settings": settings, "classes": classes}}
        save_checkpoint(Path(path).expanduser(), tensors, metadata)

    def fit(self, images: Iterable[Any], labels: Iterable[Hashable]) -> Self:
        """Learn from labelled images, one or more for each of two or more classes.

        Raises:
            FileNotFoundError: there is no such image.
            ValueError: an image cannot be read, there are none, labels do not fit, or too many classes for the head.
        """
        pictures, names = pairs(images, labels)
        classes = in_order(names)
        if len(classes) < 2:
            raise ValueError(f"all {len(names)} images are of the class {classes[0]!r}; give two classes or more")
        at = {label: index for index, label in enumerate(classes)}
        self._learn(self._read(pictures), torch.tensor([at[name] for name in names]), classes)
        return self

    def predict(self, images: Iterable[Any]) -> np.ndarray:
        """The label of each image, (n,); errors as in `predict_proba`."""
        best = self.predict_proba(images).argmax(1)
        return self.classes_[best]

    @torch.no_grad()
    def predict_proba(self, images: Iterable[Any]) -> np.ndarray:
        """The probability of each class for each image, (n, w), with rows that sum to 1.

        Raises:
            FileNotFoundError: there is no such image.
            ValueError: it is not fitted, an image cannot be read, or there are none.
        """
        learnt = self.learnt()
        query = self._read(as_list(images))
        chunk = len(query) if self.statistics == "query" else max(_CHUNK, len(learnt.images))
        outputs = [self._outputs(learnt, as_floats(part.to(self._device))) for part in query.split(chunk)]
        return torch.cat(outputs).cpu().double().softmax(1).numpy()

    def score(self, images: Iterable[Any], labels: Iterable[Hashable]) -> float:
        """The share of images whose label is predicted; errors as in `predict_proba`."""
        pictures, names = pairs(images, labels)
        return float(np.mean([a == b for a, b in zip(self.predict(pictures).tolist(), names, strict=True)]))

    def _learn(self, images: Tensor, labels: Tensor, classes: list[Hashable]) -> None:
        ways, labels = len(classes), labels.to(self._device)
        if isinstance(self.learner, nn.Module) or not isinstance(self.method, str):
            self._learn_rule(images, labels, classes)
            return
        spec = self.learner.spec
        adapts, outputs = bool(spec.inner.test_rule().adapt), spec.problem.way
        if self.method == "head" and not adapts:
            raise ValueError(f'{spec.inner.algorithm} training leaves no head that adapts: use method "nil"')
        if self.method == "head" and ways > outputs:
            raise ValueError(f'{ways} classes, but the head has {outputs} outputs: give fewer, or use method "nil"')
        method = "head" if self.method != "nil" and adapts and ways <= outputs else "nil"
        network = _first_outputs(self.learner, min(ways, outputs)).to(self._device)
        if method == "nil":
            answer = self._compared(network, NIL(), images, labels, ways)
            self._learnt = Learnt(network, images, labels, ways, answer)
        else:
            counts = labels.bincount(minlength=ways).float()
            loss = partial(F.cross_entropy, weight=1 / counts)  # tasks in training have equal numbers of images
            rule = replace(spec.inner.test_rule(), loss=loss)
            state = adapt(network, as_floats(images.to(self._device)), labels, rule)
            network.load_state_dict(state)
            self._learnt = Learnt(network, images, labels, ways)
        self.classes_, self.method_ = as_array(classes), method

    def _learn_rule(self, images: Tensor, labels: Tensor, classes: list[Hashable]) -> None:
        """By features of the network as it is."""
        named = {"auto": USUAL, "nil": NIL()}
        rule = named[self.method] if isinstance(self.method, str) else self.method
        network = copy.deepcopy(_network(self.learner)).to(self._device).eval()
        answer = self._compared(network, rule, images, labels, len(classes))
        self.classes_ = as_array(classes)
        self.method_ = "nil" if self.method == "nil" else rule
        self._learnt = Learnt(network, images, labels, len(classes), answer)

    @torch.no_grad()
    def _compared(self, network: nn.Module, rule: Rule, images: Tensor, labels: Tensor, ways: int) -> Answer:
        return answering(network, rule, as_floats(images.to(self._device)), labels, ways)

    def _outputs(self, learnt: Learnt, query: Tensor) -> Tensor:
        """Logits or log-probabilities, (q, w)."""
        if learnt.answer is not None:
            return learnt.answer(query, self.statistics)
        return query_outputs(learnt.network, as_floats(learnt.images.to(self._device)), query, self.statistics)

    def learnt(self) -> Learnt:
        """The network and the labelled images.

        Raises:
            ValueError: it is not fitted.
        """
        if self._learnt is None:
            raise ValueError("the classifier has not learnt your classes yet; call fit(images, labels) first")
        return self._learnt

    def read(self, image: Any, index: int = 0) -> np.ndarray:
        """One image at the size and in the colours of the training images, (h, w, c) uint8.

        The other methods do this with every image; it is for who wants to know first which of them can be read.

        Raises:
            FileNotFoundError: there is no such image.
            ValueError: it cannot be read; the message names its file, or `index`.
        """
        if isinstance(self.learner, nn.Module):
            known = input_of(self.learner)
            return picture(image, index, known.size, len(known.mean), crop=True)
        channels, size, _ = self.learner.shape
        return picture(image, index, size, channels, crop=data_set(self.learner.spec.problem.data).crop)

    def _read(self, pictures: list[Any]) -> Tensor:
        """Images as the network was trained on them, (n, h, w, c) uint8."""
        ink = not isinstance(self.learner, nn.Module) and data_set(self.learner.spec.problem.data).ink
        read = np.stack([self.read(given, i) for i, given in enumerate(pictures)])
        invert = np.array([self.invert if self.invert is not None else ink and is_light(x) for x in read])
        return torch.from_numpy(np.where(invert.reshape(-1, 1, 1, 1), 255 - read, read))


def _network(learner: Learner | nn.Sequential) -> nn.Sequential:
    return learner if isinstance(learner, nn.Module) else learner.model


def _first_outputs(learner: Learner, ways: int) -> nn.Sequential:
    """A copy of the network with the first `ways` outputs of its head, so that the softmax is over these alone."""
    network = learner.spec.build(learner.shape, way=ways)
    state = learner.model.state_dict()
    network.load_state_dict({name: x[:ways] if name.startswith("head.") else x for name, x in state.items()})
    return network.eval()
