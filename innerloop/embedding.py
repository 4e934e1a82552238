"""The features of every image, computed once: with a body that stays frozen, episodes of features take no images."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import torch
from rich.progress import MofNCompleteColumn
from torch import Tensor, nn

from innerloop.data.bank import Bank
from innerloop.data.cache import cached
from innerloop.data.decode import progress
from innerloop.norm import TaskNorm
from innerloop.params import resting
from innerloop.predictors import features

_SLOW = 256  # images; fewer need no bar


def embed(bank: Bank, model: nn.Module, *, head: str = "head", batch: int = 16, keep: bool = True) -> Bank:
    """The same bank with each image's features, (n, f) float32, in its place: what the model's head would get.

    Its episodes are the bank's own, class for class and image for image, so NIL, `Prototypes`, `Ridge` and ANIL's head
    (`head_of`) score on them as they do on images, in a fraction of the time. The features are kept in the cache,
    under the weights of the model, its preprocessing and the pixels; a second call reads them.

    Args:
        head: the module to leave out.
        batch: images at once; it changes the time alone.
        keep: whether to keep them in the cache.

    Raises:
        ValueError: the features of an image would depend on its task: a norm takes its statistics from the batch, or
            the bank turns its classes; or the model has no such head.
    """
    check_alone(model)
    if bank.turns:
        raise ValueError(
            f"{bank.name} turns each class of an episode, so that an image has four sets of features: embed "
            "dataclasses.replace(bank, turns=False)"
        )
    rows = torch.cat([torch.arange(a, a + n) for a, n in zip(bank.starts, bank.sizes, strict=True)])
    body = features(model, head)

    def compute() -> Bank:
        with resting(model):
            found = _all_features(body, bank, rows, batch)
        return Bank.stack(found.cpu(), bank.sizes, bank.classes, bank.groups, name=f"features of {bank.name}")

    kept = cached(f"features-{bank.name}-{_digest(model, head, bank, rows)}", compute) if keep else compute()
    return replace(
        bank,
        items=kept.items.to(bank.items.device),
        starts=tuple(accumulate((0, *bank.sizes[:-1]))),
        white=None,
        subjects=None if bank.subjects is None else bank.subjects[rows.to(bank.subjects.device)],
        files=tuple(bank.files[i] for i in rows.tolist()) if bank.files else (),
    )


def head_of(model: nn.Module, head: str = "head") -> nn.Sequential:
    """The head alone, as a model of the features that `embed` gives; it shares the head's parameters."""
    return nn.Sequential(OrderedDict({head: model.get_submodule(head)}))


@torch.no_grad()
def _all_features(body: Callable[[Tensor], Tensor], bank: Bank, rows: Tensor, batch: int) -> Tensor:
    """(n, f), with a bar where it takes a while."""
    found: list[Tensor] = []
    with progress(MofNCompleteColumn()) as bar:
        task = bar.add_task(f"features of {bank.name}", total=len(rows), visible=len(rows) >= _SLOW)
        for part in rows.to(bank.items.device).split(batch):
            found.append(body(bank.handed_out(bank.items.index_select(0, part))).flatten(1).float())
            bar.advance(task, len(part))
    return torch.cat(found)


def check_alone(model: nn.Module) -> None:
    """Refuse what makes an image's features depend on the other images of its task.

    Raises:
        ValueError: a norm takes its statistics from the batch.
    """
    for name, module in model.named_modules():
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]
        if isinstance(module, TaskNorm) or (batch_norm and not module.track_running_stats):
            raise ValueError(
                f"{name} takes its statistics from the images of a task, so an image has no features of its own: give "
                "the images to the predictor, or use a network with running statistics"
            )


def _digest(model: nn.Module, head: str, bank: Bank, rows: Tensor) -> str:
    """Changes with the weights of the body, its structure, and the pixels."""
    known = hashlib.blake2b(
        repr((model, head, tuple(bank.items.shape[1:]), bank.items.dtype, bank.white)).encode(), digest_size=12
    )
    for name, value in model.state_dict().items():
        if not name.startswith(f"{head}."):
            known.update(name.encode())
            known.update(_bytes(value))
    for part in rows.to(bank.items.device).split(4096):
        known.update(_bytes(bank.items.index_select(0, part)))
    return known.hexdigest()


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
