"""One training over several processes: tasks split by episode, one all-reduce of the flat meta-gradient.

torchrun --nproc-per-node N -m innerloop train ...

Each process ("rank") holds the whole network, takes its share of every meta batch, and after the all-reduce takes the
same step of the optimiser; the meta-gradient is the same for any number of ranks, to rounding. Rank 0 leads: it alone
reads and writes the run's folder, validates and logs, and gives the orders; the others follow. So a run goes on with
another number of ranks than it stopped with. Not `DistributedDataParallel`: it does not know second order.

Dropout draws in each rank for itself, so a network with dropout trains on other numbers with other ranks.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.utils._pytree import tree_map_only

from innerloop.outer import meta_gradient
from innerloop.parallel.heartbeat import Heartbeat
from innerloop.parallel.step import Measured, OuterStep, number, trained
from innerloop.predictors import Predictor
from innerloop.tasks import Episodes, has_labels
from innerloop.trees import each, length

T = TypeVar("T")

_STOP, _SYNC = -1, -2  # orders that are no number of a batch
_PATIENCE = timedelta(days=1)  # of an order: the leader may test for long. That a rank is gone, its heartbeat tells


class RankLost(ConnectionError):
    """Another process of this training has ended."""


def launched() -> int:
    """How many processes this training has, 1 without a launcher such as torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@dataclass(frozen=True)
class Ranks:
    """This process among those of one training."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        """Whether it is the one that reads, validates, logs and writes."""
        return self.rank == 0

    def share(self, tasks: int) -> slice:
        """Which tasks of a meta batch are this rank's: as even as can be, the first ranks have one more."""
        each, over = divmod(tasks, self.size)
        first = self.rank * each + min(self.rank, over)
        return slice(first, first + each + (self.rank < over))

    def meta_gradient(
        self, model: nn.Module, episodes: Episodes, predictor: Predictor, *, chunk_size: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Set `.grad` to the gradient of the mean query loss over all ranks' tasks; that loss and the accuracy.

        `episodes` are the whole meta batch, of which this rank computes its share.
        """
        tasks = length(episodes.query_x)
        own = Episodes(*(each(lambda x: x[self.share(tasks)], part) for part in episodes))
        mine = length(own.query_x)
        parameters = [p for p in model.parameters() if p.requires_grad]
        numbers, labels = parameters[0].new_zeros(2), has_labels(episodes.query_y)
        if mine:
            loss, accuracy = meta_gradient(model, own, predictor, chunk_size=chunk_size)
            numbers = torch.stack([loss, loss if accuracy is None else accuracy]).to(numbers)
            labels = accuracy is not None
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(grad.flatten() for grad in grads), numbers]) * (mine / tasks)
        with _together():
            dist.all_reduce(flat)
        *parts, numbers = flat.split([*(p.numel() for p in parameters), 2])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return numbers[0], numbers[1] if labels else None

    def agree(self, what: object, problem: str | None = None) -> None:
        """Go on only if every rank comes here with the same `what` and without a problem.

        Raises:
            ValueError: one has a problem, or other settings than rank 0; each rank raises the same.
        """
        said: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(said, (what, problem))
        for rank, (theirs, trouble) in enumerate(said):
            if trouble:
                raise ValueError(trouble if rank == 0 else f"rank {rank}: {trouble}")
            if theirs != said[0][0]:
                raise ValueError(
                    f"rank {rank} differs from rank 0: {theirs} against {said[0][0]}. Give every rank the same "
                    "command, on the same version of innerloop and torch"
                )

    def stepper(self, step: OuterStep) -> RankedStep:
        """`step` as all ranks take it together."""
        return RankedStep(step, self)

    def start(self, make: Callable[[Any], T], same: object, said: Any = None) -> T | None:
        """What `make` makes of what rank 0 has `said`, on every rank; None where rank 0 had nothing to train.

        Raises:
            ValueError: one rank could not make it, or differs from rank 0 in `same`; each rank raises the same.
        """
        if self.order(_SYNC) == _STOP:
            return None
        said, made, problem = self.tell(said), None, None
        try:
            made = make(said)
        except (ValueError, OSError) as error:
            problem = str(error)
        self.agree(same, problem)
        return made

    def check_tasks(self, tasks: int) -> None:
        """Refuse a meta batch that leaves a rank without a task; a task is never split, since its norms are over it.

        Raises:
            ValueError: there are fewer tasks than ranks.
        """
        if tasks < self.size:
            raise ValueError(
                f"{self.size} processes cannot share a meta batch of {tasks} task{'s' if tasks > 1 else ''}: use "
                f"--nproc-per-node {tasks}, or more tasks"
            )

    def tell(self, what: Any = None) -> Any:
        """What rank 0 says, on every rank."""
        box = [what]
        with _together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def order(self, order: int = _STOP) -> int:
        """Rank 0's order, on every rank."""
        box = torch.tensor([order])
        with _together():
            dist.broadcast(box, src=0)
        return int(box)


class RankedStep:
    """An outer step that all ranks take together: rank 0 calls it, the others `follow`."""

    def __init__(self, step: OuterStep, ranks: Ranks) -> None:
        if trained(step.optimizer)[0].is_cuda and not dist.is_nccl_available():
            raise ValueError("several GPUs need NCCL, which this PyTorch lacks: use --device cpu, or a build with NCCL")
        self.step, self.ranks, self._in_step = replace(step, gradient=ranks.meta_gradient), ranks, False

    def __call__(self, index: int) -> Measured:
        """Order and take the step on batch `index`."""
        if not self._in_step:  # the others take over what a checkpoint may have held
            self.ranks.order(_SYNC)
            self._share_state()
            self._in_step = True
        self.ranks.order(index)
        return self.step(number(index, self.step.optimizer))

    def follow(self) -> None:
        """Take the steps that rank 0 orders, until it stops."""
        while (order := self.ranks.order()) != _STOP:
            if order == _SYNC:
                self._share_state()
            else:
                self.step(number(order, self.step.optimizer))

    def _share_state(self) -> None:
        model, optimizer = self.step.model, self.step.optimizer
        said = self.ranks.tell((_on_cpu(model.state_dict()), _on_cpu(optimizer.state_dict()["state"])))
        if not self.ranks.leads:
            model.load_state_dict(said[0])
            optimizer.load_state_dict(optimizer.state_dict() | {"state": said[1]})


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Inside, this process is one of the ranks that a launcher such as torchrun started; its device is told, too.

    When rank 0 leaves, however it does, the others are told to stop.

    Raises:
        ValueError: a rank has no GPU of its own, or torch was built without torch.distributed.
    """
    if not dist.is_available():
        raise ValueError("this PyTorch was built without torch.distributed: train with one process")
    device = _own_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") and dist.is_nccl_available() else "gloo"
    store, rank, size = next(iter(rendezvous("env://", timeout=timedelta(minutes=2))))
    dist.init_process_group(backend, store=PrefixStore("ranks", store), rank=rank, world_size=size, timeout=_PATIENCE)
    ranks = Ranks(rank, size)
    try:
        with Heartbeat(PrefixStore("beat", store), rank, size):
            try:
                yield ranks, device
            finally:
                if ranks.leads:
                    with suppress(RankLost):
                        ranks.order(_STOP)
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _own_device(device: str) -> str:
    """The GPU of this rank among those of its machine, or the CPU."""
    if device == "cpu" or not torch.cuda.is_available():
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if device not in ("auto", "cuda"):
        raise ValueError(f"several processes choose their GPUs themselves: use --device cuda or cpu, not {device}")
    if local >= count:
        raise ValueError(
            f"local rank {local} has no GPU of its own, there {'is' if count == 1 else 'are'} {count}: "
            f"use --nproc-per-node {count}, or --device cpu"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise RankLost(
            f"another process of this training is gone ({reason}). Give the same command again, with any number of "
            "processes: the run goes on from its last checkpoint"
        ) from error


def _on_cpu(state: Any) -> Any:
    return tree_map_only(Tensor, lambda value: value.detach().cpu(), state)


def follows() -> bool:
    """Whether this process is one of several and not the one that leads: it says nothing."""
    return launched() > 1 and os.environ["RANK"] != "0"


def lead_or_follow(device: str, lead: Callable[[Ranks | None, str], T], follow: Callable[[Ranks, str], None]) -> T:
    """`lead` in an ordinary process and in rank 0 of several; `follow` in the others, which then end.

    The others leave Ctrl-C and SIGTERM, which a launcher sends to all, to rank 0; what all raise, it alone says.
    """
    if launched() == 1:
        return lead(None, device)
    if follows():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    with joined(device) as (ranks, own):
        if ranks.leads:
            return lead(ranks, own)
        try:
            follow(ranks, own)
        except ValueError:
            sys.exit(1)
    sys.exit(0)
