from __future__ import annotations

import warnings

import pytest
import torch
from parallel.tape import tape
from parallel.test_captured import GPU, RULES, Waits, bank, labels_are_not_read, outer_step, recorder
from torch import nn

from innerloop.evaluation import evaluate
from innerloop.parallel.recorded import RecordedPredictor

labels_are_not_read = labels_are_not_read


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", RULES)
def test_a_record_predicts_as_the_predictor_also_once_the_model_has_learnt_more(name, device):
    step = outer_step(RULES[name], device)
    batches = bank(device).episodes(3, 1, 2, tasks=2, count=3)
    recorded = RecordedPredictor(RULES[name], recorder(device))
    for index in range(3):
        ours, theirs = (evaluate(step.model, batches, predictor) for predictor in (recorded, RULES[name]))
        torch.testing.assert_close(ours.values, theirs.values)
        step(torch.tensor(index, device=device))


def test_one_record_serves_all_batches_of_a_shape():
    made = []

    def counting(work):
        made.append(work)
        return tape(work)

    step = outer_step(RULES["anil"])
    recorded = RecordedPredictor(RULES["anil"], counting)
    outputs = []
    with torch.no_grad():
        for tasks in (2, 3, 2):
            for batch in bank().episodes(3, 1, 2, tasks=tasks, count=2):
                want = RULES["anil"](step.model, batch, every_step=True)
                outputs.append(recorded(step.model, batch, every_step=True))
                torch.testing.assert_close(outputs[-1], want)
    assert len(made) == 2
    assert not torch.equal(outputs[0], outputs[1]), "what was given stays as it was given"


def test_with_gradients_it_is_the_predictor():
    step, batch = outer_step(RULES["anil"]), bank().episodes(3, 1, 2, tasks=2, count=1)[0]
    recorded = RecordedPredictor(RULES["anil"], tape)
    recorded(step.model, batch).sum().backward()
    assert step.model.head.weight.grad is not None
    assert recorded.loss is RULES["anil"].loss
    assert recorded.statistics == "query"


def test_what_waits_runs_as_it_is_and_says_why_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), Waits(), nn.Linear(192, 3))
    batch, recorded = bank().episodes(3, 1, 2, tasks=2, count=1)[0], RecordedPredictor(RULES["maml"], tape)
    with torch.no_grad():
        want = RULES["maml"](model, batch, chunk_size=1)
        with pytest.warns(UserWarning, match="a validation is not captured"):
            assert torch.equal(recorded(model, batch, chunk_size=1), want)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(recorded(model, batch, chunk_size=1), want)
