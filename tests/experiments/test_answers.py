"""Answers as files: typed, named by their questions, and damaged ones told by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from innerloop.experiments.answers import Damaged, answer, find, find_or_why, keep_reasons, path_of, reasons
from innerloop.experiments.few_shot import Accuracy
from innerloop.experiments.lab import Lab
from innerloop.experiments.questions import name_of
from innerloop.runs.config import Spec
from innerloop.runs.means import Compute, Source

RUN = Spec(seed=3)


@dataclass(frozen=True)
class Found:
    value: float
    words: list[str]
    by_name: dict[str, float | None]


@dataclass(frozen=True)
class Squared:
    """A question of another kind: about no network at all."""

    run: Spec
    times: int = 1

    answers: ClassVar[type] = Found
    times_the_device: ClassVar[bool] = False

    @property
    def runs(self) -> tuple[Spec, ...]:
        return ()

    @property
    def subject(self) -> Spec:
        return self.run

    def answer(self, lab: Lab) -> Found:
        assert str(lab.device) == "cpu"
        return Found(self.times * self.run.seed**2.0, ["é"], {"a": 1.5, "b": None})


def test_a_question_of_another_kind_is_answered_and_kept(tmp_path):
    asked = Squared(RUN, times=2)
    assert find(asked, tmp_path) is None
    kept = answer(asked, Lab(tmp_path, lambda _: (Compute(device="cpu"), Source())))
    assert kept.answer == Found(18, ["é"], {"a": 1.5, "b": None})
    assert find(asked, tmp_path) == kept
    whole = json.loads(path_of(asked, tmp_path).read_text())
    assert whole["question"] == {"kind": "Squared", "run": RUN.as_json(), "times": 2}
    assert whole["torch"]
    assert find(Squared(RUN.where(seed=4)), tmp_path) is None


GOOD = {
    "question": {}, "answer": {"accuracy": 0.5, "interval": None, "episodes": 1, "statistics": "query"},
    "device": "a CPU", "seconds": 0.1, "torch": "2",
}  # fmt: skip


def without(*keys: str) -> dict[str, Any]:
    whole = json.loads(json.dumps(GOOD))
    place = whole
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return whole


def with_answer(**fields: Any) -> dict[str, Any]:
    return GOOD | {"answer": GOOD["answer"] | fields}


DAMAGE = {
    "empty": (b"", "truncated"),
    "cut off": (b'{"answer": {"accuracy": 0.5', "truncated"),
    "no text": (b"\xff\x00\xfe", "malformed"),
    "a list": (b"[]", "Expected `object`"),
    "null": (b"null", "Expected `object`"),
    "no answer": (json.dumps(without("answer")).encode(), "missing required field `answer`"),
    "no accuracy": (json.dumps(without("answer", "accuracy")).encode(), "missing required field `accuracy`"),
    "no device": (json.dumps(without("device")).encode(), "missing required field `device`"),
    "words": (json.dumps(with_answer(accuracy="high")).encode(), r"at `\$.answer.accuracy`"),
    "a list for a number": (json.dumps(with_answer(interval=[1])).encode(), r"at `\$.answer.interval`"),
    "half an episode": (json.dumps(with_answer(episodes=0.5)).encode(), r"at `\$.answer.episodes`"),
    "not a number": (json.dumps(with_answer(accuracy=float("nan"))).encode(), "malformed"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_answer_is_one_line_with_file_field_and_advice(damage, tmp_path):
    path = path_of(Accuracy(RUN), tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps(GOOD))
    assert find(Accuracy(RUN), tmp_path) is not None
    content, said = DAMAGE[damage]
    path.write_bytes(content)
    with pytest.raises(Damaged, match=said) as error:
        find(Accuracy(RUN), tmp_path)
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).endswith("Delete it and give the run command again: it is answered anew.")
    assert "\n" not in str(error.value)
    assert find_or_why(Accuracy(RUN), tmp_path) == str(error.value)


def test_reasons_are_kept(tmp_path):
    assert reasons(tmp_path) == {}
    keep_reasons({name_of(Accuracy(RUN)): "no disk"}, tmp_path)
    assert reasons(tmp_path) == {name_of(Accuracy(RUN)): "no disk"}


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_damaged_reasons_are_named(damage, tmp_path):
    (tmp_path / "missing.json").write_bytes(damage)
    with pytest.raises(Damaged, match=r"missing\.json is damaged .* Delete it"):
        reasons(tmp_path)
