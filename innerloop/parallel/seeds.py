"""Several trainings that differ in their seed alone, as one more axis: one small run does not fill a large GPU.

Parameters are stacked, vmap runs over the seeds, and Adam, which works number by number, updates all stacks at once.
A seed's numbers are those of its run alone, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from innerloop.parallel.step import Measured, Stream
from innerloop.predictors import Predictor, bind
from innerloop.tasks import Episodes, has_labels


class SeedsStep:
    """The outer step of n models at once, each on its own batches; what it measures has an axis (n,).

    The models' parameters become views of the stacks: they change with every step, and copying into them works.

    Args:
        models: networks of one kind, each with its first weights, on one device.
        streams: the batches of each; their support labels must be the same, as those of `EpisodeStream` are.
        predictor: of all of them.
        optimizer: makes one over the stacks, number by number as Adam is.
        clip: each element of the meta-gradients is clipped to [-clip, clip].
        chunk_size: tasks of a seed in memory at once; at least 2, or None for all.

    Raises:
        ValueError: there is not one stream for each model, or chunk_size is 1, which vmap cannot do.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        streams: Sequence[Stream],
        predictor: Predictor,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
        *,
        clip: float | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if not models or len(models) != len(streams):
            raise ValueError(f"expected one stream for each model; got {len(streams)} for {len(models)}")
        if chunk_size == 1:
            raise ValueError("several seeds at once need chunk_size above 1, or None: vmap runs over their tasks")
        self._streams, self._predictor, self._clip, self._chunk_size = list(streams), predictor, clip, chunk_size
        self._whole = _Outputs(deepcopy(models[0]), predictor)
        self._looked = False
        self._state = {f"model.{name}": stack for name, stack in _stacks(models).items()}
        self.optimizer = optimizer([stack for stack in self._state.values() if stack.requires_grad])

    @property
    def buffers(self) -> list[Tensor]:
        """What is stacked and not trained."""
        return [stack for stack in self._state.values() if not stack.requires_grad]

    def __call__(self, index: Tensor) -> Measured:
        """Loss and, for labels, accuracy of each model on its query set, before the update."""
        self.optimizer.zero_grad()
        batches = [stream.at(index) for stream in self._streams]
        support_y = batches[0].support_y
        support_x, query_x, query_y = (
            torch.stack(parts) for parts in zip(*((b.support_x, b.query_x, b.query_y) for b in batches), strict=True)
        )
        if len(support_y) == 1:
            raise ValueError("several seeds at once need 2 tasks a meta batch or more: vmap runs over them; got 1")
        chunk_size = self._chunk_size or len(support_y)

        def outputs(state: dict[str, Tensor], support_x: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
            episodes = Episodes(support_x, support_y, query_x, query_y)
            return functional_call(self._whole, state, (episodes, chunk_size))

        if not self._looked:  # at how the model behaves, which vmap would hide
            self._looked = True
            with torch.no_grad(), torch.random.fork_rng(_devices(support_x)):
                self._whole(batches[0], chunk_size)
        logits = vmap(outputs, randomness="different")(self._state, support_x, query_x, query_y)  # (n, t, q, w)
        tasks = zip(logits.flatten(0, 1), query_y.flatten(0, 1), strict=True)
        losses = torch.stack([self._predictor.loss(*task) for task in tasks]).unflatten(0, query_y.shape[:2]).mean(1)
        losses.sum().backward()
        if self._clip is not None:
            nn.utils.clip_grad_value_([stack for stack in self._state.values() if stack.requires_grad], self._clip)
        self.optimizer.step()
        measured = {"loss": losses.detach()}
        if has_labels(query_y):
            measured["accuracy"] = (logits.detach().argmax(-1) == query_y).flatten(1).float().mean(1)
        return measured


class _Outputs(nn.Module):
    """A predictor's outputs as a function of its model's state."""

    def __init__(self, model: nn.Module, predictor: Predictor) -> None:
        super().__init__()
        self.model, self.bound = model, bind(model, predictor)

    def forward(self, episodes: Episodes, chunk_size: int) -> Tensor:
        """(t, q, w), after the last step."""
        return self.bound(episodes, chunk_size=chunk_size)[-1]


def _devices(x: Tensor) -> list[int]:
    return [x.device.index] if x.is_cuda else []


def _stacks(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The models' parameters and buffers, (n, ...), in whose memory each model's lie from now on."""
    own = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
    stacks: dict[str, Tensor] = {}
    for name, first in own[0].items():
        stack = torch.stack([tensors[name].detach() for tensors in own])
        stacks[name] = nn.Parameter(stack, first.requires_grad) if isinstance(first, nn.Parameter) else stack
        for tensors, part in zip(own, stack, strict=True):
            tensors[name].data = part
    return stacks
