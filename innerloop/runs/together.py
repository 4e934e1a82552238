"""Several runs in step, an iteration of each in turn, so that what they share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from innerloop.device import repeatable
from innerloop.runs.folder import Stop
from innerloop.runs.schedule import Interrupted
from innerloop.runs.trainer import Training

Outcome = dict[str, Any] | Exception


class Apart(ValueError):
    """Runs that should train in step are not at the same iteration."""


def train_together(trainings: Sequence[Callable[[Stop], Training]]) -> list[Outcome]:
    """Train all of them; each one's result, or what it raised, which does not stop the others.

    Raises:
        Apart: they stand at different iterations; nothing was trained.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
    """
    stop = Stop()
    runs = {place: make(stop) for place, make in enumerate(trainings)}
    outcomes: dict[int, Outcome] = {}

    def advance() -> set[int]:
        """One iteration of each that goes on; where they are then."""
        done: set[int] = set()
        for place in sorted(runs.keys() - outcomes.keys()):
            try:
                done.add(next(runs[place]))
            except StopIteration as end:
                outcomes[place] = end.value
            except (ValueError, OSError, RuntimeError, Interrupted) as error:
                outcomes[place] = error
        return done

    with repeatable():
        try:
            begun = advance()
            if len(begun) > 1:
                raise Apart(f"runs that train in step stand at different iterations, {sorted(begun)}: train each alone")
            while len(outcomes) < len(runs):
                advance()
        finally:
            for run in runs.values():
                run.close()
    for outcome in outcomes.values():
        if isinstance(outcome, Interrupted):
            raise outcome
    return [outcomes[place] for place in sorted(outcomes)]
