"""The presets' first episode, first weights and first losses, noted when the paper's runs at small scale were made.

golden.json has hashes of the four tensors of the first batch and of the first weights, bit for bit, and 20 losses on
one thread: MAML's in single precision, ANIL's in double, since large inner steps of the head alone make a hundredth of
single precision's last bit within 20 steps. The dearest have fewer of them compared.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from innerloop.outer import meta_train
from innerloop.runs.images import first_weights, training_stream
from innerloop.runs.means import Source
from innerloop.runs.presets import preset
from innerloop.runs.sources import open_data

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def decoded_once(cache, monkeypatch) -> None:
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))


def hashed(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def losses(name: str, source: Path | None, steps: int) -> list[float]:
    """After the episode and the weights are found to be the golden ones."""
    want, (preset_name, _, algorithm) = GOLDEN[name], name.rpartition("/")
    spec = preset(preset_name).where(algorithm=algorithm)
    data = open_data(spec.problem, Source(str(source) if source else None))
    model = first_weights(spec, data, Path("nowhere"))
    stream = training_stream(data.train, spec)
    assert {key: hashed(value) for key, value in model.named_parameters()} == want["weights"]
    assert [hashed(part) for part in stream[0]] == want["episode"]
    if algorithm == "anil":
        model = model.double()
    adam = torch.optim.Adam(model.parameters(), spec.outer.meta_lr)
    kind = next(model.parameters()).dtype
    drawn = (stream[i] for i in range(steps))
    batches = (batch._replace(support_x=batch.support_x.to(kind), query_x=batch.query_x.to(kind)) for batch in drawn)
    predictor = spec.inner.predictor(spec.problem.way)
    return [float(step.loss) for step in meta_train(model, batches, predictor, adam, clip=spec.outer.clip)]


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("glyphs-5way")])
def test_glyphs_begin_as_ever(name):
    assert losses(name, None, 3) == pytest.approx(GOLDEN[name]["losses"][:3], abs=1e-6)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in GOLDEN if not name.startswith("glyphs-5way")])
def test_the_paper_begins_as_ever(name, shared):
    source = next((shared / data for data in ("omniglot", "mini-imagenet") if name.startswith(data)), None)
    steps = 4 if name.endswith("5shot/maml") else 8 if name.endswith("maml") else 20
    assert losses(name, source, steps) == pytest.approx(GOLDEN[name]["losses"][:steps], abs=1e-6)
