"""In this process: one training after the other. As many of these as there are cores may share a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from innerloop.device import pick_device
from innerloop.experiments.answers import answer
from innerloop.experiments.claims import Claims
from innerloop.experiments.estimates import all_left
from innerloop.experiments.lab import Lab
from innerloop.experiments.plan import Training, damaged, finished, trainings, unanswered
from innerloop.experiments.questions import Question, name_of
from innerloop.experiments.training import Means, Run, body_of, train
from innerloop.runs.folder import Busy

Tell = Callable[[str], None]
_LONG = 5  # seconds after which an answer is told of
BUSY = "another process is at work on it: give the same command again later"
USER_ERRORS = (FileNotFoundError, ValueError)  # such as a data set that is not there


def carry_out(
    questions: Sequence[Question], store: Path, means: Means, tell: Tell, *, times: bool = True
) -> dict[Question, str]:
    """Train what is not trained, answer what is not answered, and return why some questions are still open.

    A question is answered as soon as its runs are there, those that time the device at the very end, and only if
    `times`. A run whose data set is missing costs the questions that need it, and nothing else.

    Raises:
        ValueError: a device is not there.
        Interrupted: Ctrl-C or SIGTERM; what was done is saved.
        OSError: the store cannot be written, or the disk is full; what was done is saved.
    """
    work = _Work(list(dict.fromkeys(questions)), store, means, tell)
    work.tell_what_is_left()
    while work.answer_ready(timing=False) or work.train_next() or work.others_left_something():
        pass
    if times:
        work.answer_ready(timing=True)
    return work.open()


@dataclass
class _Work:
    questions: Sequence[Question]
    store: Path
    means: Means
    tell: Tell
    refused: dict[str, str] = field(default_factory=dict[str, str])  # runs and questions by name: why
    busy: set[str] = field(default_factory=set[str])  # what other processes held in the last round

    def __post_init__(self) -> None:
        for device in {self.means(question.subject)[0].device for question in self.questions}:
            pick_device(device)  # complain before the work, not in it
        self.lab, self.claims = Lab(self.store, self.means), Claims(self.store)
        self.refused |= {name_of(question): why for question, why in damaged(self.questions, self.store).items()}

    def tell_what_is_left(self) -> None:
        plan = trainings(self.questions, self.store)
        left, todo = len(unanswered(self.questions, self.store, self.means)), sum(each.needed for each in plan)
        self.tell(f"{left} of {len(self.questions)} questions and {todo} of the {len(plan)} runs they need are left")
        self.refused |= {each.spec.name: each.damage for each in plan if each.damage}

    def answer_ready(self, *, timing: bool) -> bool:
        """Answer every question whose runs are there; whether there was one."""
        self.busy.clear()
        done = False
        waiting = unanswered(self.questions, self.store, self.means)
        waiting = [each for each in waiting if each.times_the_device == timing and name_of(each) not in self.refused]
        there = {spec for spec in {run for each in waiting for run in each.runs} if finished(spec, self.store)}
        for question in waiting:
            if there.issuperset(question.runs):
                done |= self._answer(question)
        return done

    def _answer(self, question: Question) -> bool:
        name = name_of(question)
        with self.claims.held(name) as mine:
            if not mine:
                self.busy.add(name)
                return False
            if not unanswered([question], self.store, self.means):  # by now another process has been there
                return True
            try:
                took = answer(question, self.lab).seconds
            except USER_ERRORS as error:
                self.refused[name] = in_a_line(error)
                return False
            if took >= _LONG:
                self.tell(f"answered: {name.partition('-')[0]} of {question.subject.title}, {took:.0f} s")
            return True

    def train_next(self) -> bool:
        """Train the first run that is needed and that no other process is at; whether there was one."""
        plan = trainings(self.questions, self.store)
        needed = [each for each in plan if each.needed and each.spec.name not in self.refused]
        for training in needed:
            name = training.spec.name
            if why := self.refused.get(body_of(training.spec)):
                self._refuse(training.spec, why)
                return True
            if body_of(training.spec) in {each.spec.name for each in needed}:
                continue  # its body comes first
            with self.claims.held(name) as mine:
                if not mine:
                    self.busy.add(name)
                    continue
                if self._train(training, needed):
                    return True
        return False

    def _train(self, training: Training, needed: Sequence[Training]) -> bool:
        spec = training.spec
        if finished(spec, self.store):  # another process has trained it since we looked
            return True
        left = all_left(trainings(self.questions, self.store))
        self.tell(f"training {spec.name}: {len(needed)} run{'s' if len(needed) > 1 else ''} left, {left}")
        try:
            train(spec, self.store / spec.name, *self.means(spec))
        except Busy:  # a process that trains this run alone
            self.busy.add(spec.name)
            return False
        except USER_ERRORS as error:
            self._refuse(spec, in_a_line(error))
        return True

    def _refuse(self, spec: Run, why: str) -> None:
        self.refused[spec.name] = why
        self.tell(f"left out: {why}")

    def others_left_something(self) -> bool:
        """Watch what other processes hold: whether one of them is gone or done before all have shown to be alive."""
        watched = {name: self.claims.touched(name) for name in self.busy}
        watched = {name: when for name, when in watched.items() if when is not None}
        until = time.monotonic() + self.claims.patience
        while watched and time.monotonic() < until:
            time.sleep(self.claims.pause)
            for name, when in list(watched.items()):
                with self.claims.held(name) as mine:
                    if mine:
                        return True
                if self.claims.touched(name) != when:
                    del watched[name]
        return False

    def open(self) -> dict[Question, str]:
        """Why questions have no answer."""
        left = unanswered(self.questions, self.store, self.means)
        return {question: self._why(question) for question in left}

    def _why(self, question: Question) -> str:
        names = (name_of(question), *(spec.name for spec in question.runs))
        return next((self.refused[name] for name in names if name in self.refused), BUSY)


def in_a_line(error: BaseException) -> str:
    """Its message."""
    return " ".join(str(error).split())
