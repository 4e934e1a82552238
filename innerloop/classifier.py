"""The door for users: learn your own classes from a few labelled images each, with a network that was meta-trained."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.data import NAMES
from innerloop.data.episodes import as_floats
from innerloop.data.files import walk
from innerloop.data.folder import check_folder, class_folders
from innerloop.data.pictures import is_light, listed, picture
from innerloop.device import pick_device
from innerloop.inner import adapt
from innerloop.norm import Statistics, check_norms, query_outputs
from innerloop.predictors import NIL
from innerloop.runs.checkpoint import load_checkpoint, save_checkpoint
from innerloop.runs.load import Learner, learner_from, load_learner
from innerloop.tasks import Episodes

Method = Literal["auto", "head", "nil"]

_INK = ("omniglot", "glyphs")  # trained on white ink on black
_CHUNK = 64  # query images that run at once


class _Learnt(NamedTuple):
    network: nn.Sequential  # adapted, where the method is "head"
    images: Tensor  # (s, h, w, c) uint8, as the network was trained on them
    labels: Tensor  # (s,) indices into the classes
    counts: Tensor  # (w,) support images of each class


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
        learner: a trained network, see `load`.
        method: "head" runs the inner loop that the network was trained with, with its number of steps at test.
            It takes at most as many classes as the head has outputs; for fewer, the first outputs alone are used.
            "nil" compares features with the labelled images (`NIL`), for any number of classes; its probabilities
            rank classes and are far from 0 and 1. "auto" is "head" where that is possible. `method_` says which.
        statistics: whose normalise an image (`innerloop.norm`). With "support", those of the labelled images,
            or "image", a prediction does not depend on the other images; with "query" it does: all images of
            one call are one batch, so classes should be mixed in it as in a test episode.
        invert: whether to invert every image; None inverts ink on light paper, as said above.
        device: cpu, cuda, or "auto" for the best there is.

    Attributes:
        classes_: the labels, sorted where they can be; in the order of the columns of `predict_proba`.
        method_: "head" or "nil".

    Raises:
        ValueError: an unknown method or statistics, or no such device.
    """

    classes_: np.ndarray
    method_: Literal["head", "nil"]

    def __init__(
        self,
        learner: Learner,
        *,
        method: Method = "auto",
        statistics: Statistics = "support",
        invert: bool | None = None,
        device: str = "auto",
    ) -> None:
        if isinstance(learner, str | Path):
            raise ValueError(f"expected a trained network, got a path: use FewShotClassifier.load({str(learner)!r})")
        if method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
        check_norms(learner.model, (), statistics, vmapped=False, first_order=True)
        self.learner, self.method, self.invert = learner, method, invert
        self.statistics: Statistics = statistics
        self.device = pick_device(device)
        self._learnt: _Learnt | None = None

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
            return cls(load_learner(path), **settings)
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
        learnt = self._fitted()
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
        pictures, names = _pairs(images, labels)
        classes = _sorted(names)
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
        learnt = self._fitted()
        query = self._read(listed(images))
        chunk = len(query) if self.statistics == "query" else max(_CHUNK, len(learnt.images))
        outputs = [self._outputs(learnt, as_floats(part.to(self.device))) for part in query.split(chunk)]
        return torch.cat(outputs).cpu().double().softmax(1).numpy()

    def score(self, images: Iterable[Any], labels: Iterable[Hashable]) -> float:
        """The share of images whose label is predicted; errors as in `predict_proba`."""
        pictures, names = _pairs(images, labels)
        return float(np.mean([a == b for a, b in zip(self.predict(pictures).tolist(), names, strict=True)]))

    def _learn(self, images: Tensor, labels: Tensor, classes: list[Hashable]) -> None:
        spec, ways = self.learner.spec, len(classes)
        adapts = bool(spec.test_rule().adapt)
        if self.method == "head" and not adapts:
            raise ValueError(f'{spec.algorithm} training leaves no head that adapts: use method "nil"')
        if self.method == "head" and ways > spec.way:
            raise ValueError(f'{ways} classes, but the head has {spec.way} outputs: give fewer, or use method "nil"')
        method = "head" if self.method != "nil" and adapts and ways <= spec.way else "nil"
        network = _first_outputs(self.learner, min(ways, spec.way)).to(self.device)
        labels = labels.to(self.device)
        counts = labels.bincount(minlength=ways).float()
        if method == "head":
            loss = partial(F.cross_entropy, weight=1 / counts)  # tasks in training have equal numbers of images
            state = adapt(network, as_floats(images.to(self.device)), labels, replace(spec.test_rule(), loss=loss))
            network.load_state_dict(state)
        self.classes_, self.method_ = _array(classes), method
        self._learnt = _Learnt(network, images, labels, counts)

    def _outputs(self, learnt: _Learnt, query: Tensor) -> Tensor:
        """Logits or log-probabilities, (q, w)."""
        support = as_floats(learnt.images.to(self.device))
        if self.method_ == "head":
            return query_outputs(learnt.network, support, query, self.statistics)
        one = Episodes(*(part.unsqueeze(0) for part in (support, learnt.labels, query, query.new_zeros(len(query)))))
        nil = NIL(way=len(learnt.counts), statistics=self.statistics)
        summed = nil(learnt.network, one, chunk_size=1)[0, 0]
        return summed - learnt.counts.log()  # a class's mean weight instead of its sum

    def _fitted(self) -> _Learnt:
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
        channels, size, _ = self.learner.shape
        return picture(image, index, size, channels, crop=self.learner.spec.data not in NAMES)

    def _read(self, pictures: list[Any]) -> Tensor:
        """Images as the network was trained on them, (n, h, w, c) uint8."""
        spec = self.learner.spec
        read = np.stack([self.read(given, i) for i, given in enumerate(pictures)])
        invert = np.array([self.invert if self.invert is not None else spec.data in _INK and is_light(x) for x in read])
        return torch.from_numpy(np.where(invert.reshape(-1, 1, 1, 1), 255 - read, read))


def read_folder(path: Path | str) -> tuple[list[Path], list[str]]:
    """The images of a folder with one sub-folder a class, and their labels, which are the sub-folders' names.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has no sub-folders, or one of them has no images.
    """
    root = Path(path).expanduser()
    check_folder(root)
    found = {folder.name: [folder / file.name for file in walk(folder, 1)] for folder in class_folders(root)}
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{root} has classes without images: {', '.join(empty)}; add images or remove the folders")
    return [file for files in found.values() for file in files], [name for name in found for _ in found[name]]


def _first_outputs(learner: Learner, ways: int) -> nn.Sequential:
    """A copy of the network with the first `ways` outputs of its head, so that the softmax is over these alone."""
    network = learner.spec.build(learner.shape, way=ways)
    state = learner.model.state_dict()
    network.load_state_dict({name: x[:ways] if name.startswith("head.") else x for name, x in state.items()})
    return network.eval()


def _pairs(images: Iterable[Any], labels: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Images and labels; these as Python's own values, so that numpy's and torch's numbers compare and can be saved."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ValueError(f"expected a sequence of labels, one an image, got {type(labels).__name__}")
    pictures, names = listed(images), [label.item() if hasattr(label, "item") else label for label in labels]
    if odd := [name for name in names if not isinstance(name, Hashable) or name != name]:
        raise ValueError(f"a label is text, a number or another hashable value, got {odd[0]!r}")
    if len(pictures) != len(names):
        raise ValueError(f"{len(pictures)} images but {len(names)} labels; give one label an image")
    return pictures, names


def _sorted(names: list[Any]) -> list[Any]:
    try:
        return sorted(set(names))
    except TypeError:  # kinds that have no order
        return list(dict.fromkeys(names))


def _array(classes: list[Any]) -> np.ndarray:
    """Text and numbers as numpy has them, anything else and any mixture as objects, (w,)."""
    kinds = {type(label) for label in classes}
    if len(kinds) == 1 and kinds <= {str, int, float, bool}:
        return np.array(classes)
    return np.fromiter(classes, object, len(classes))
