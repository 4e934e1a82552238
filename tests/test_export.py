from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop import InnerLoop, Prototypes, Ridge
from innerloop.export import as_module, as_program, to_onnx
from tests.test_classifier import checkpoint, fitted, pictures
from tests.test_pretrained_classifier import made, photos

RULES = {
    "auto": "auto",
    "nil": "nil",
    "ridge": Ridge(strength=0.1, normalise=True, intercept=True),
    "prototypes": Prototypes(),
    "logistic": InnerLoop(("head.*",), steps=10, lr=0.5),
}


def pixels(classifier, images):
    return torch.from_numpy(np.stack([classifier.read(image) for image in images])).movedim(-1, 1) / 255


@pytest.mark.parametrize("method", RULES)
def test_the_module_and_the_program_are_the_classifier(method):
    images, labels = photos()
    keep = [0, 1, 2, 6, 7, 12, 13, 14, 15]  # classes of unequal size
    classifier = made(method=RULES[method]).fit(images[keep], [labels[i] for i in keep])
    module, program = as_module(classifier), as_program(classifier).module()
    assert module.classes == ["ant", "bee", "cat"]
    assert module.shape == (3, 24, 24)
    for count in (1, 2, 18):
        expected, x = classifier.predict_proba(images[:count]), pixels(classifier, images[:count])
        np.testing.assert_allclose(module(x).detach(), expected, atol=1e-5)
        np.testing.assert_allclose(program(x).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["head", "nil", Ridge(strength=0.1)], ids=["head", "nil", "ridge"])
def test_a_meta_trained_network_keeps_the_support_statistics(method, tmp_path):
    classifier = fitted(checkpoint(tmp_path / "best.safetensors"), method=method, statistics="support")
    images, _ = pictures([4] * 5, seed=1)
    module, program = as_module(classifier), as_program(classifier).module()
    for count in (1, 20):
        expected, x = classifier.predict_proba(images[:count]), pixels(classifier, images[:count])
        np.testing.assert_allclose(module(x).detach(), expected, atol=1e-5)
        np.testing.assert_allclose(program(x).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("statistics", ["query", "image"])
def test_what_cannot_be_exported_honestly_is_refused(statistics, tmp_path):
    with pytest.raises(ValueError, match="which no export can keep"):
        as_module(fitted(checkpoint(tmp_path / "best.safetensors"), statistics=statistics))
    with pytest.raises(ValueError, match="has not learnt your classes yet"):
        as_module(made())


@pytest.mark.slow
@pytest.mark.parametrize("method", RULES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_onnx_is_the_classifier(method, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    images, labels = photos()
    classifier = made(method=RULES[method]).fit(images, labels)
    path = to_onnx(classifier, tmp_path / "away" / "mine.onnx")
    session = runtime.InferenceSession(path)
    assert session.get_modelmeta().custom_metadata_map["classes"].splitlines() == ["ant", "bee", "cat"]
    for count in (1, 18):
        x = pixels(classifier, images[:count]).numpy()
        (found,) = session.run(None, {"images": x})
        np.testing.assert_allclose(found, classifier.predict_proba(images[:count]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_onnx_of_a_meta_trained_network(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    classifier = fitted(checkpoint(tmp_path / "best.safetensors"), method="head", statistics="support")
    images, _ = pictures([2] * 5, seed=1)
    session = runtime.InferenceSession(to_onnx(classifier, tmp_path / "mine.onnx"))
    (found,) = session.run(None, {"images": pixels(classifier, images).numpy()})
    np.testing.assert_allclose(found, classifier.predict_proba(images), atol=1e-5)
