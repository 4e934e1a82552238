"""Where a vision network's stem, stages and pooling are: found by the names of its parts, never by its class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop.models.few_shot import SpatialMean

_EMBEDDERS = ("embeddings", "embedder")
_LISTS = ("encoder.stages", "encoder.layer", "encoder.layers", "layers", "stages", "blocks", "layer")
_POOLS = ("avgpool", "global_pool", "pool")


class Anatomy(NamedTuple):
    """A network taken apart: `pool(stages(stem(x)))` are its features, (n, f)."""

    stem: nn.Module
    stages: list[nn.Module]
    pool: nn.Module
    features: Callable[[Tensor], Tensor]  # the network's own way to the same numbers


class ClassToken(nn.Module):
    """The first token, which vision transformers put there for the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        """From (n, tokens, f) to (n, f)."""
        return x[:, 0]


class Stage(nn.Module):
    """Blocks one after the other, with attention that can be differentiated twice wherever gradients are asked for.

    PyTorch's fused attention has no second derivative, so MAML through it would end in an error.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """What comes in and goes out has the layout of the network: (n, c, h, w) or (n, tokens, f)."""
        if not torch.is_grad_enabled():
            return self.blocks(x)
        with sdpa_kernel(SDPBackend.MATH):
            return self.blocks(x)


def take_apart(model: nn.Module, stages: str | None = None) -> Anatomy:
    """Find the parts of a network; `stages` is the name of its list of stages where it is no known one.

    Raises:
        ValueError: it has no list of stages.
    """
    finders = [_named(stages)] if stages else [_transformers, _resnet, _lite, _timm, _torchvision, _named(None)]
    for find in finders:
        if found := find(model):
            return found
    names = ", ".join(name for name, _ in model.named_children()) or "no parts at all"
    what = f"no list of stages {stages!r}" if stages else "no list of stages that could be found"
    raise ValueError(
        f"{type(model).__name__} has {what}; its parts are {names}. Name the list with stages=..., or write the "
        "network as an nn.Sequential whose last child is called head."
    )


def _transformers(model: Any) -> Anatomy | None:
    """Hugging Face: embeddings, an encoder, and a norm or a pooler."""
    if not hasattr(model, "base_model_prefix") or not hasattr(model, "config"):
        return None
    base = getattr(model, model.base_model_prefix or "", model)
    embedder, blocks = _first(base, _EMBEDDERS), _list(base)
    if embedder is None or not blocks:
        return None
    norm, pooler = getattr(base, "layernorm", None), getattr(base, "pooler", None)
    if hasattr(embedder, "cls_token"):
        pool = _chain(norm, ClassToken())
        return Anatomy(embedder, blocks, pool, lambda x: base(x).last_hidden_state[:, 0])
    pool = _chain(pooler, nn.Flatten()) if pooler is not None else _chain(SpatialMean(), norm)
    return Anatomy(embedder, blocks, pool, lambda x: base(x).pooler_output.flatten(1))


def _resnet(model: Any) -> Anatomy | None:
    """torchvision's and timm's ResNet: conv1, bn1, layer1, layer2, ..., fc."""
    stages = [part for name, part in model.named_children() if name.startswith("layer") and name[5:].isdigit()]
    if not stages or not hasattr(model, "conv1"):
        return None
    stem = [_first(model, (name,)) for name in ("conv1", "bn1", "act1", "relu", "maxpool")]
    return Anatomy(_chain(*stem), stages, _chain(_pool(model), nn.Flatten()), before_head(model, stages))


def _lite(model: Any) -> Anatomy | None:
    """EfficientNet as lukemelas' package and its descendants write it."""
    if not hasattr(model, "_blocks") or not hasattr(model, "_conv_stem"):
        return None
    stem = _chain(model._conv_stem, model._bn0, model._swish)
    pool = _chain(model._conv_head, model._bn1, model._swish, SpatialMean())
    blocks = _list(model, ("_blocks",))
    return Anatomy(stem, blocks, pool, before_head(model, blocks))


def _timm(model: Any) -> Anatomy | None:
    """timm: every network there has `forward_head`, which ends in the features once it has no classifier."""
    if not hasattr(model, "forward_head") or not hasattr(model, "reset_classifier") or not (blocks := _list(model)):
        return None
    model = copy.deepcopy(model)
    model.reset_classifier(0)
    blocks = _list(model)
    before, after = _around(model, blocks)
    patches = [name for name in ("patch_embed", "_pos_embed", "patch_drop", "norm_pre") if hasattr(model, name)]
    opening = tuple(patches) if "patch_embed" in patches else tuple(before)
    closing = (*(name for name in ("norm_pre", "norm", "conv_head", "bn2") if name in after), "forward_head")
    stem, pool = _Rest(model, before, opening, own=True), _Rest(model, after, closing)
    return Anatomy(stem, blocks, _chain(pool, nn.Flatten()), lambda x: model(x).flatten(1))


def _torchvision(model: Any) -> Anatomy | None:
    """torchvision's others: `features`, perhaps `avgpool`, and a `classifier` whose last layer is the head."""
    features, classifier = getattr(model, "features", None), getattr(model, "classifier", None)
    if not isinstance(features, nn.Sequential) or len(features) < 2 or classifier is None:
        return None
    before = list(classifier.children())[:-1] if isinstance(classifier, nn.Sequential) else []
    flat = [] if any(isinstance(part, nn.Flatten) for part in before) else [nn.Flatten()]
    pool = _chain(_pool(model) or nn.AdaptiveAvgPool2d(1), *flat, *before)
    return Anatomy(features[0], list(features.children())[1:], pool, before_head(model, list(features.children())))


def _named(name: str | None) -> Callable[[nn.Module], Anatomy | None]:
    """Any module: what stands before the list is the stem, what stands after it, without the head, the pooling."""

    def find(model: nn.Module) -> Anatomy | None:
        blocks = _list(model, (name,) if name else _LISTS)
        if not blocks:
            return None
        before, after = _around(model, blocks)
        head = _head(model, blocks)
        pool = _chain(*(part for part in after.values() if part is not head), nn.Flatten())
        return Anatomy(_chain(*before.values()), blocks, pool, before_head(model, blocks))

    return find


def _around(model: nn.Module, blocks: list[nn.Module]) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The parts that stand before and after these blocks."""
    parts = list(model.named_children())
    at = next(i for i, (_, part) in enumerate(parts) if any(blocks[0] is inner for inner in part.modules()))
    return dict(parts[:at]), dict(parts[at + 1 :])


def before_head(model: nn.Module, blocks: list[nn.Module]) -> Callable[[Tensor], Tensor]:
    """What the network's last linear layer gets, or its outputs where it has none, as (n, f)."""
    head = _head(model, blocks)

    def features(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) if head else None
        try:
            outputs = model(x)
        finally:
            if hook:
                hook.remove()
        return (seen[-1] if seen else outputs).flatten(1)

    return features


def _head(model: nn.Module, blocks: list[nn.Module]) -> nn.Module | None:
    """The last linear layer that does not lie within the stages."""
    inside = {id(part) for block in blocks for part in block.modules()}
    linear = [part for part in model.modules() if isinstance(part, nn.Linear) and id(part) not in inside]
    return linear[-1] if linear else None


class _Rest(nn.Module):
    """A network with some of its parts alone, whose methods and parts are called one after the other, by name."""

    def __init__(self, model: Any, parts: dict[str, nn.Module], calls: tuple[str, ...], own: bool = False) -> None:
        super().__init__()
        self.part, self.calls = copy.copy(model), calls
        self.part._modules = dict(parts)
        if not own:  # the class token and the positions go with the first parts
            self.part._parameters = {}

    def forward(self, x: Tensor) -> Tensor:
        """From what the first call takes to what the last one gives."""
        for name in self.calls:
            x = getattr(self.part, name)(x)
        return x


def _first(model: Any, names: Sequence[str]) -> Any:
    return next((getattr(model, name) for name in names if isinstance(getattr(model, name, None), nn.Module)), None)


def _pool(model: nn.Module) -> Any:
    return _first(model, _POOLS)


def _list(model: nn.Module, names: Sequence[str] = _LISTS) -> list[nn.Module]:
    """The first of these lists of modules that it has."""
    for name in names:
        found: Any = model
        for step in name.split("."):
            found = getattr(found, step, None)
        if isinstance(found, nn.ModuleList | nn.Sequential) and len(found):
            return list(found)
    return []


def _chain(*parts: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(*(part for part in parts if part is not None))
