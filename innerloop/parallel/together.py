"""Outer steps of several trainings that are asked for one by one, and taken as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from innerloop.choices import Capture
from innerloop.parallel.captured import Captured
from innerloop.parallel.seeds import SeedsStep
from innerloop.parallel.step import Measured, OuterStep, moments, trained


class Together:
    """Makes one step of those that join, which differ in their seed alone.

    All join before the first step; then each asks for its steps by number, all for the same number before any asks for
    the next. Each optimiser goes on holding its own training's state, as views of what all share.
    """

    def __init__(self, capture: Capture = "auto") -> None:
        self._capture: Capture = capture
        self._members: list[OuterStep] = []
        self._step: SeedsStep | None = None
        self._at, self._measured = -1, Measured()

    def join(self, step: OuterStep) -> Callable[[int], Measured]:
        """What takes the step in the company of the others, by its number.

        Raises:
            ValueError: the others have begun.
        """
        if self._step:
            raise ValueError("the others have begun: all must join before the first step")
        place = len(self._members)
        self._members.append(step)

        def take(index: int) -> Measured:
            if index != self._at:
                self._measured, self._at = self._take(index), index
            return {name: values[place] for name, values in self._measured.items()}

        return take

    def _take(self, index: int) -> Measured:
        if self._step is None:
            self._step = self._begun()
            self._captured = Captured(self._step, capture=self._capture)
        measured = self._captured(index)
        self._hand_out(self._step.optimizer)
        return measured

    def _begun(self) -> SeedsStep:
        """Stack the networks, and what their optimisers hold."""
        first = self._members[0]
        own, settings = type(first.optimizer), first.optimizer.defaults
        step = SeedsStep(
            [member.model for member in self._members],
            [member.stream for member in self._members],
            first.predictor,
            lambda stacks: own(stacks, **settings),
            clip=first.clip,
            chunk_size=first.chunk_size,
        )
        held = [dict(moments(member.optimizer)) for member in self._members]
        state: dict[torch.Tensor, dict[str, Any]] = {}
        for place, name in held[0]:
            values = [each[place, name] for each in held]
            stack = trained(step.optimizer)[place]
            shared = values[0].shape != stack.shape[1:]  # a count of steps, which is the same for all
            state.setdefault(stack, {})[name] = values[0].clone() if shared else torch.stack(values)
        step.optimizer.state.update(state)
        self._handed: list[torch.Tensor] = []
        return step

    def _hand_out(self, optimizer: torch.optim.Optimizer) -> None:
        """Give each optimiser its views, once they exist."""
        now = list(moments(optimizer))
        if len(now) == len(self._handed):
            return
        self._handed = [value for _, value in now]
        for (place, name), value in now:
            stacked = value.shape == trained(optimizer)[place].shape
            for seed, member in enumerate(self._members):
                parameter = trained(member.optimizer)[place]
                member.optimizer.state[parameter][name] = value[seed] if stacked else value
