"""A predictor without a gradient as one CUDA graph a shape: for validations, which do the same again and again."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from innerloop.choices import Statistics
from innerloop.inner import Loss
from innerloop.parallel.captured import Play, Recorder, cuda_graph
from innerloop.predictors import Predictor
from innerloop.tasks import Episodes


class RecordedPredictor:
    """A predictor that is recorded once for each model and shape and played from then on.

    With gradients, on a CPU, and where it cannot be recorded it runs as it is. A record reads the parameters where they
    lie, so a model that goes on training needs no other.

    Args:
        predictor: what is recorded; the reference, too.
        recorder: how; by default as a CUDA graph on a GPU, and not at all elsewhere.
    """

    def __init__(self, predictor: Predictor, recorder: Recorder | None = None) -> None:
        self._predictor, self._recorder, self._refused = predictor, recorder, False
        self._records: dict[Any, _Record] = {}

    @property
    def loss(self) -> Loss:
        """The predictor's."""
        return self._predictor.loss

    @property
    def statistics(self) -> Statistics:
        """The predictor's."""
        return self._predictor.statistics

    def __call__(
        self, model: nn.Module, episodes: Episodes, *, chunk_size: int | None = None, every_step: bool = False
    ) -> Any:
        """Query outputs, as the predictor's."""
        given = [x for x in tree_leaves(episodes) if isinstance(x, Tensor)]
        recorder = self._recorder or (cuda_graph if given[0].is_cuda else None)
        if recorder is None or self._refused or torch.is_grad_enabled():
            return self._predictor(model, episodes, chunk_size=chunk_size, every_step=every_step)
        shapes = tuple((x.shape, x.stride(), x.dtype) for x in given)
        memory = tuple(x.data_ptr() for x in (*model.parameters(), *model.buffers()))
        key = shapes, memory, model.training, chunk_size, every_step
        if key not in self._records:
            work = _Record(self._predictor, model, episodes, {"chunk_size": chunk_size, "every_step": every_step})
            try:
                work.make(recorder)
            except RuntimeError as error:
                self._refused = True
                reason = str(error).strip().split("\n")[0]
                warnings.warn(f"a validation is not captured as a CUDA graph and runs slower ({reason})", stacklevel=2)
                return self(model, episodes, chunk_size=chunk_size, every_step=every_step)
            self._records[key] = work
        return self._records[key].outputs_for(given)


class _Record:
    """The predictor's work on inputs that lie in one place."""

    def __init__(self, predictor: Predictor, model: nn.Module, episodes: Episodes, options: dict[str, Any]) -> None:
        self._predictor, self._model, self._options = predictor, model, options
        self._episodes = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, episodes)
        self._outputs: Any = None
        self._play: Play | None = None

    def make(self, recorder: Recorder) -> None:
        """Record it, with the random numbers afterwards as before."""

        def work() -> None:
            outputs = self._predictor(self._model, self._episodes, **self._options)
            if self._outputs is None:
                self._outputs = tree_map(torch.empty_like, outputs)
            for ours, theirs in zip(tree_leaves(self._outputs), tree_leaves(outputs), strict=True):
                ours.copy_(theirs)

        first = tree_leaves(self._episodes)[0]
        with torch.random.fork_rng([first.device.index] if first.is_cuda else []):
            self._play = recorder(work)

    def outputs_for(self, given: list[Tensor]) -> Any:
        """Play it on other inputs of the same shapes."""
        assert self._play
        own = [x for x in tree_leaves(self._episodes) if isinstance(x, Tensor)]
        for ours, theirs in zip(own, given, strict=True):
            ours.copy_(theirs)
        self._play()
        return tree_map(torch.clone, self._outputs)
