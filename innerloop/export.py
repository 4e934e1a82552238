"""A fitted classifier taken away: one module, a `torch.export` program, or ONNX, that needs no innerloop."""

from __future__ import annotations

import copy
import importlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.choices import Statistics
from innerloop.classifier import FewShotClassifier
from innerloop.data.episodes import as_floats
from innerloop.embedding import check_alone
from innerloop.frozen import Rule, answering
from innerloop.heads import Prototypes, Ridge
from innerloop.norm import settled
from innerloop.params import children
from innerloop.predictors import NIL

_BATCH = "images"  # the axis of the inputs that may have any length


class Exported(nn.Module):
    """From images (n, c, h, w) float32 in [0, 1] to the probability of each class, (n, w): see `as_module`."""

    def __init__(self, classifier: FewShotClassifier) -> None:
        super().__init__()
        learnt = classifier.learnt()
        network = copy.deepcopy(learnt.network).cpu().eval()
        images, labels = as_floats(learnt.images), learnt.labels.cpu()
        self.classes = [str(name) for name in classifier.classes_]
        self.shape = tuple(images.shape[1:])  # of one image, (c, h, w)
        if not _alone(network):
            network = _settled(network, images, classifier.statistics)
        rule = NIL() if classifier.method_ == "nil" else classifier.method_
        if isinstance(rule, str):
            self.network, self.answer = network, nn.Identity()
        else:
            self.network = nn.Sequential(OrderedDict(children(network)[:-1]))
            with torch.no_grad():
                self.answer = _answer(rule, self.network(images).flatten(1), labels, learnt.ways)

    def forward(self, images: Tensor) -> Tensor:
        """Rows sum to 1; the classes are in the order of `classes`."""
        return self.answer(self.network(images).flatten(1)).softmax(1)


class _Compared(nn.Module):
    """Features compared with those of the labelled images, as NIL and prototypes do."""

    def __init__(self, rule: NIL | Prototypes, support: Tensor, labels: Tensor, ways: int) -> None:
        super().__init__()
        self.rule = rule
        self.support: Tensor
        self.targets: Tensor
        self.share: Tensor
        self.register_buffer("support", support)
        self.register_buffer("targets", F.one_hot(labels, ways).to(support.dtype))
        counts = labels.bincount(minlength=ways).to(support.dtype)
        self.register_buffer("share", counts.log() if isinstance(rule, NIL) else torch.zeros_like(counts))

    def forward(self, x: Tensor) -> Tensor:
        """From features (n, f) to outputs (n, w)."""
        return self.rule.answer(self.support, self.targets, x) - self.share


class _Affine(nn.Module):
    """Outputs that are a linear layer of the features, as ridge regression's and an adapted head's are."""

    def __init__(self, weight: Tensor, bias: Tensor, normalise: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], len(weight))
        self.linear.load_state_dict({"weight": weight, "bias": bias})
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """From features (n, f) to outputs (n, w)."""
        return self.linear(F.normalize(x, dim=1) if self.normalise else x)


def _answer(rule: Rule, support: Tensor, labels: Tensor, ways: int) -> nn.Module:
    """From features to outputs, solved for these labelled images once and for all."""
    if isinstance(rule, NIL | Prototypes):
        return _Compared(rule, support, labels, ways)
    normalise = isinstance(rule, Ridge) and rule.normalise
    if isinstance(rule, Ridge):
        support, rule = F.normalize(support, dim=1) if normalise else support, replace(rule, normalise=False)
    head = nn.Sequential(OrderedDict(head=nn.Identity()))
    outputs = answering(head, rule, support, labels, ways)
    unit = torch.eye(support.shape[1])
    bias = outputs(torch.zeros_like(unit[:1]), "image")[0]
    return _Affine((outputs(unit, "image") - bias).T, bias, normalise)


def _alone(network: nn.Module) -> bool:
    try:
        check_alone(network)
    except ValueError:
        return False
    return True


def _settled(network: nn.Sequential, support: Tensor, statistics: Statistics) -> nn.Sequential:
    """The network with the statistics of the labelled images in it."""
    if statistics != "support":
        raise ValueError(
            f'with statistics="{statistics}" a prediction depends on the images that it is made with, which no export '
            'can keep: use statistics="support", whose module holds those of the labelled images'
        )
    kept = settled(network, support)
    return nn.Sequential(OrderedDict(children(kept)))


def as_module(classifier: FewShotClassifier) -> Exported:
    """The fitted classifier as one module of images (n, c, h, w) in [0, 1], at the size that its network takes.

    It holds what it needs of the labelled images. Reading photos (size, colours, upright) stays with its user:
    `classifier.read` does it, and the module's `shape` and `classes` say what goes in and what comes out.

    Raises:
        ValueError: it is not fitted, or a prediction would depend on the other images of its batch.
    """
    return Exported(classifier).eval()


def as_program(classifier: FewShotClassifier) -> torch.export.ExportedProgram:
    """The same as a `torch.export` program, for any number of images; errors as in `as_module`."""
    module = as_module(classifier)
    example = torch.rand(2, *module.shape)
    batch = torch.export.Dim(_BATCH, min=1)
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=({0: batch},))


def to_onnx(classifier: FewShotClassifier, path: Path | str) -> Path:
    """Write the same as ONNX, for any number of images; the classes are in the metadata, one a line.

    Raises:
        ValueError: as in `as_module`.
        ImportError: the packages of the extra `export` are not installed.
        OSError: the file cannot be written.
    """
    onnx = _needed("onnx"), _needed("onnxscript")
    module, path = as_module(classifier), Path(path).expanduser()
    program = torch.onnx.export(
        as_program(classifier), input_names=["images"], output_names=["probabilities"], verbose=False
    )
    if program is None:
        raise RuntimeError("torch.onnx gave no program")
    model: Any = program.model_proto
    for key, value in (("classes", "\n".join(module.classes)), ("made by", "innerloop")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx[0].save(model, str(path))
    return path


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"ONNX needs {package}: pip install 'innerloop-meta[export]'") from error
