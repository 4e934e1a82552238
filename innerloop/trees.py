"""Trees of tensors: what a model takes and puts out where that is more than one tensor.

A tree is a tensor, or a dict, tuple or list of trees. The outputs of a model may also be a dataclass, as those of
Hugging Face's models are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Tree = Any
"""A tensor, or a dict, tuple or list of trees."""


def leaves(tree: Tree) -> list[Tensor]:
    """Its tensors, in order."""
    return [tree] if isinstance(tree, Tensor) else [x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor)]


def each(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The same tree with `function` of every tensor; what is no tensor stays."""
    if isinstance(tree, Tensor):
        return function(tree)
    return pytree.tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, tree)


def joined(function: Callable[[list[Tensor]], Tensor], trees: list[Tree]) -> Tree:
    """One tree of many alike, with `function` of the tensors that stand in the same place, such as `torch.stack`."""
    if isinstance(trees[0], Tensor):
        return function(trees)
    flat, shape = pytree.tree_flatten(trees[0])
    columns = zip(*(pytree.tree_leaves(tree) for tree in trees), strict=True)
    whole = [
        function(list(column)) if isinstance(one, Tensor) else one for one, column in zip(flat, columns, strict=True)
    ]
    return pytree.tree_unflatten(whole, shape)


def rows(tree: Tree) -> list[Tree]:
    """One tree for each place of the first axis."""
    return [each(lambda x, i=i: x[i], tree) for i in range(length(tree))]


def length(tree: Tree) -> int:
    """Of the first axis."""
    return len(leaves(tree)[0])


def plain(outputs: Any) -> Tree:
    """A model's outputs as a tree: a dataclass or another mapping becomes a dict without what is None."""
    if isinstance(outputs, Tensor):
        return outputs
    if is_dataclass(outputs) and not isinstance(outputs, type):
        outputs = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    if isinstance(outputs, Mapping):
        return {key: plain(value) for key, value in outputs.items() if value is not None}
    if isinstance(outputs, tuple | list):
        parts = [plain(value) for value in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    return outputs


def logits_of(outputs: Tree) -> Tensor | None:
    """The tensor itself, "logits" of a dict, the first tensor of a tuple; None where there is none of these."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits")
    elif isinstance(outputs, tuple | list) and outputs:
        outputs = getattr(outputs, "logits", outputs[0])
    return outputs if isinstance(outputs, Tensor) else None


def bare(loss: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What `partial` wraps, and the keywords it was given."""
    keywords: dict[str, Any] = {}
    while isinstance(loss, partial):
        keywords = {**loss.keywords, **keywords}
        loss = loss.func
    return loss, keywords


def takes_tensor(loss: Callable[..., Any]) -> bool:
    """Whether it is one of torch's own losses, which want logits rather than all that a model puts out."""
    function, _ = bare(loss)
    return (type(function) if isinstance(function, nn.Module) else function).__module__.startswith("torch.")


def read_by(loss: Callable[..., Any], outputs: Any) -> Tree:
    """Of a model's outputs what `loss` reads: the logits for torch's own losses, the whole tree for a user's."""
    if isinstance(outputs, Tensor):
        return outputs
    tree = plain(outputs)
    if not takes_tensor(loss):
        return tree
    logits = logits_of(tree)
    if logits is None:
        names = ", ".join(map(str, tree)) if isinstance(tree, Mapping) else type(outputs).__name__
        raise ValueError(f"the model puts out {names}, with no logits among them: pass a loss that takes these outputs")
    return logits


def run(module: nn.Module, x: Tree) -> Any:
    """`module` of one input; of a dict by keywords or of a tuple by places, where its forward takes them so."""
    if isinstance(x, Tensor):
        return module(x)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return module(x)
    if isinstance(x, Mapping):
        names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        return module(**x) if x.keys() <= names else module(x)
    if isinstance(x, tuple | list) and not hasattr(x, "_fields"):
        places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = [p for p in places if p.default is p.empty]
        free = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if free or (len(places) > 1 and len(needed) <= len(x) <= len(places)):
            return module(*x)
    return module(x)


def as_tree(given: Any) -> Tree:
    """Numpy arrays become tensors."""
    return pytree.tree_map(
        lambda x: torch.from_numpy(x) if type(x).__module__ == "numpy" and hasattr(x, "dtype") else x, given
    )
