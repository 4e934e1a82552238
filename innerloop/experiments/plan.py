"""What a study still has to do in a store: which runs are trained, which questions answered, and what is left.

Whatever asks for them, a run is trained once and a question answered once: both are named by their settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from innerloop.device import device_name, pick_device
from innerloop.experiments.answers import Kept, find_or_why
from innerloop.experiments.questions import Question
from innerloop.experiments.training import Means, Run, body_of, iterations_of, result_of
from innerloop.runs.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Training:
    """A run of a plan, as it stands."""

    spec: Run
    done: int  # iterations
    finished: bool  # trained and tested
    needed: bool  # not finished, and a question without an answer, or a head on its body, waits for it
    seconds: float | None = None  # that its iterations took, as far as they are done and known
    damage: str = ""  # a file of it that cannot be read


def trainings(questions: Iterable[Question], store: Path) -> list[Training]:
    """The distinct runs that questions need, in the order of their training: by seed, bodies before heads."""
    questions = list(questions)
    specs = dict.fromkeys(spec for question in questions for spec in question.runs)
    stand = {spec: _stands(spec, store) for spec in specs}
    asked = (question for question in questions if find_or_why(question, store) is None)
    awaited = {spec for question in asked for spec in question.runs}
    bodies = {body_of(spec) for spec in awaited if not stand[spec].finished}
    return [
        Training(spec, now.done, now.finished, not now.finished and (spec in awaited or spec.name in bodies),
                 now.seconds, now.damage)
        for spec, now in sorted(stand.items(), key=lambda item: (item[0].seed, bool(body_of(item[0]))))
    ]  # fmt: skip


def finished(spec: Run, store: Path) -> bool:
    """Whether a run is trained and tested."""
    return _stands(spec, store).finished


def _stands(spec: Run, store: Path) -> Training:
    folder = store / spec.name
    try:
        result, last = result_of(spec, folder), folder / "last.safetensors"
        if result is not None:
            return Training(spec, iterations_of(spec), True, False, result.get("train_seconds"))
        metadata = load_checkpoint(last).metadata if last.exists() else {}
        return Training(spec, metadata.get("iteration", 0), False, False, metadata.get("seconds"))
    except ValueError as error:  # a damaged file: the run itself will say so, the others go on
        return Training(spec, 0, False, False, damage=str(error))


def unanswered(questions: Iterable[Question], store: Path, means: Means) -> list[Question]:
    """The questions that have no answer yet, or a damaged one.

    One about the device counts on the device that it was answered on, and on no other.
    """

    def answered(question: Question) -> bool:
        kept = find_or_why(question, store)
        if not isinstance(kept, Kept) or not question.times_the_device:
            return isinstance(kept, Kept)
        return kept.device == device_name(pick_device(means(question.subject)[0].device))

    return [question for question in questions if not answered(question)]


def damaged(questions: Sequence[Question], store: Path) -> dict[Question, str]:
    """The questions whose answers are kept in damaged files, and what to do about each."""
    found = ((question, find_or_why(question, store)) for question in questions)
    return {question: why for question, why in found if isinstance(why, str)}
