from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.classifier import FewShotClassifier
from innerloop.data.labelled import read_folder
from innerloop.inner import predict
from innerloop.predictors import NIL
from innerloop.runs.checkpoint import load_checkpoint, save_checkpoint
from innerloop.runs.config import Spec
from innerloop.tasks import Episodes

SIZE = 16
WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def checkpoint(path: Path, data: str = "pets", channels: int = 3, **more) -> Path:
    """A network with random weights, as a run would leave it."""
    spec = Spec().where(data=data, size=SIZE, width=8, pooling="stride", **{"lr": 1.0, **more})
    shape = (channels, SIZE, SIZE)
    metadata = {"spec": spec.as_json(), "shape": shape, "iteration": 7, "val_accuracy": 0.5, "statistics": "query"}
    save_checkpoint(path, spec.build(shape).state_dict(), metadata)
    return path


def pictures(each: list[int], channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise on a light bar whose place is the class, in no order: (n, h, w, c) uint8 and (n,) class numbers."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(each)), each))
    images = random.integers(0, 90, (len(labels), SIZE, SIZE, channels), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3, 1:-1] += 160
    return images, labels


def fitted(path: Path, ways: int = 5, **settings) -> FewShotClassifier:
    images, labels = pictures([5] * ways)
    return FewShotClassifier.load(path, **settings).fit(images, [WORDS[i] for i in labels])


def floats(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """What is compared closely is computed in full precision."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def trained(tmp_path):
    return checkpoint(tmp_path / "best.safetensors")


@pytest.mark.parametrize("method", ["head", "nil"])
def test_it_learns_with_the_manners_of_scikit_learn(trained, method):
    images, labels = pictures([5] * 5)
    queries, truth = pictures([8] * 5, seed=1)
    classifier = FewShotClassifier.load(trained, method=method)
    assert classifier.fit(images, labels) is classifier
    assert classifier.classes_.tolist() == [0, 1, 2, 3, 4]
    assert classifier.method_ == method
    rows = classifier.predict_proba(queries)
    assert rows.shape == (40, 5)
    assert np.allclose(rows.sum(1), 1, atol=1e-12)
    assert (classifier.predict(queries) == rows.argmax(1)).all()
    assert classifier.score(queries, truth) == np.mean(classifier.predict(queries) == truth) > 0.6


@pytest.mark.parametrize("statistics", ["support", "query"])
@pytest.mark.parametrize("method", ["head", "nil"])
def test_it_computes_what_the_library_computes(trained, method, statistics):
    images, labels = pictures([5] * 5)
    queries, _ = pictures([15] * 5, seed=1)  # more than run at once, where that matters
    classifier = FewShotClassifier.load(trained, method=method, statistics=statistics).fit(images, labels)
    model, spec = classifier.learner.model, classifier.learner.spec
    support_y = torch.from_numpy(labels)[None]
    episode = Episodes(floats(images)[None], support_y, floats(queries)[None], torch.zeros(1, len(queries)))
    with torch.no_grad():
        nil = NIL(statistics=statistics)(model, episode)[0]
        outputs = (
            nil
            if method == "nil"
            else predict(model, episode, replace(spec.inner.test_rule(), statistics=statistics))[0]
        )
    assert np.allclose(classifier.predict_proba(queries), outputs[0].softmax(1).numpy(), atol=1e-4)


@pytest.mark.parametrize("algorithm", ["maml", "boil"])
def test_the_body_adapts_where_the_network_was_trained_so(tmp_path, algorithm):
    classifier = fitted(checkpoint(tmp_path / "best.safetensors", algorithm=algorithm))
    queries, truth = pictures([8] * 5, seed=1)
    assert classifier.score(queries, [WORDS[i] for i in truth]) > 0.7
    again = fitted(tmp_path / "best.safetensors").fit(*pictures([5] * 5)).fit(*pictures([5] * 5, seed=2))
    once = FewShotClassifier.load(tmp_path / "best.safetensors").fit(*pictures([5] * 5, seed=2))
    assert (
        again.predict_proba(queries) == once.predict_proba(queries)
    ).all()  # each fit starts from the trained weights


@pytest.mark.parametrize("method", ["head", "nil"])
def test_a_prediction_does_not_depend_on_the_others(trained, method):
    classifier = fitted(trained, method=method)
    queries, _ = pictures([30] * 5, seed=1)  # more than run at once
    together = classifier.predict_proba(queries)
    order = np.random.default_rng(0).permutation(len(queries))
    assert np.allclose(classifier.predict_proba(queries[order]), together[order], atol=1e-5)
    for part in ([0], [149, 3], range(70)):
        assert np.allclose(classifier.predict_proba(queries[list(part)]), together[list(part)], atol=1e-5)
    classifier.statistics = "query"
    assert not np.allclose(classifier.predict_proba(queries[:9]), classifier.predict_proba(queries)[:9], atol=1e-3)


def test_auto_takes_the_head_as_long_as_it_has_outputs(trained):
    for ways, method in ((2, "head"), (3, "head"), (5, "head"), (6, "nil")):
        classifier = fitted(trained, ways)
        assert (classifier.method_, classifier.classes_.tolist()) == (method, list(WORDS[:ways]))
        queries, truth = pictures([8] * ways, seed=1)
        assert classifier.predict_proba(queries).shape == (8 * ways, ways)
        assert classifier.score(queries, [WORDS[i] for i in truth]) > 1.3 / ways
    with pytest.raises(ValueError, match=r"6 classes, but the head has 5 outputs.*nil"):
        fitted(trained, 6, method="head")


def test_fewer_classes_use_the_first_outputs_of_the_head(trained):
    classifier = fitted(trained, 3)
    start = classifier.learner.model.state_dict()
    assert classifier._learnt is not None
    assert classifier._learnt.network.head.weight.shape[0] == 3
    assert start["head.weight"].shape[0] == 5  # the trained network stays whole
    still = fitted(checkpoint(trained.parent / "still.safetensors", test_steps=0), 3)
    queries, _ = pictures([2] * 3, seed=1)
    with torch.no_grad():
        images, labels = pictures([5] * 3)
        one = Episodes(
            floats(images)[None], torch.from_numpy(labels)[None], floats(queries)[None], torch.zeros(1, 6).long()
        )
        rule = replace(still.learner.spec.inner.test_rule(), statistics="support")
        outputs = predict(still.learner.model, one, rule)[0, 0, :, :3]
    assert np.allclose(still.predict_proba(queries), outputs.softmax(1).numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["head", "nil"])
def test_unequal_numbers_of_images_do_not_favour_a_class(trained, method):
    queries, truth = pictures([8] * 5, seed=1)
    classifier = FewShotClassifier.load(trained, method=method).fit(*pictures([1, 20, 1, 1, 1], seed=3))
    assert classifier.score(queries, truth) > 0.5
    assert classifier.predict_proba(queries).mean(0).max() < 0.3  # a fifth, give or take


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        (np.array(["b", "a", "b", "c"]), ["a", "b", "c"]),
        ([10, 2, 10, 2], [2, 10]),
        (torch.tensor([10, 2, 10, 2]), [2, 10]),
        (list(torch.tensor([10, 2, 10, 2])), [2, 10]),
        ([True, False, True, True], [False, True]),
        (["one", 2, None, 2], ["one", 2, None]),
        ([("a", 1), ("a", 0), ("a", 1), ("b", 0)], [("a", 0), ("a", 1), ("b", 0)]),
    ],
)
def test_labels_are_of_any_hashable_kind(trained, tmp_path, labels, classes):
    images, _ = pictures([1] * 4)
    classifier = FewShotClassifier.load(trained).fit(images, labels)
    assert classifier.classes_.tolist() == classes
    assert set(classifier.predict(images).tolist()) <= set(classes)
    path = tmp_path / "mine.safetensors"
    if isinstance(classes[0], tuple):
        with pytest.raises(ValueError, match="only labels that are text or numbers"):
            classifier.save(path)
        return
    classifier.save(path)
    again = FewShotClassifier.load(path)
    assert again.classes_.tolist() == classes
    assert again.classes_.dtype == classifier.classes_.dtype


@pytest.mark.parametrize("method", ["head", "nil"])
def test_saved_and_loaded_it_predicts_the_same_without_the_images(trained, tmp_path, method):
    queries, _ = pictures([4] * 4, seed=1)
    classifier = fitted(trained, 4, method=method, statistics="query", invert=True)
    classifier.save(tmp_path / "sub" / "mine.safetensors")
    trained.unlink()
    again = FewShotClassifier.load(str(tmp_path / "sub" / "mine.safetensors"))
    assert (again.method, again.method_, again.statistics, again.invert) == (method, method, "query", True)
    assert (again.predict_proba(queries) == classifier.predict_proba(queries)).all()
    other = FewShotClassifier.load(tmp_path / "sub" / "mine.safetensors", method="nil", statistics="support")
    assert (other.method_, other.statistics, other.invert) == ("nil", "support", True)
    images, labels = pictures([5] * 5)
    assert again.fit(images, labels).classes_.tolist() == [0, 1, 2, 3, 4]  # the head still has all its outputs


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_gives_the_same(tmp_path, channels):
    path = checkpoint(tmp_path / "best.safetensors", channels=channels)
    queries, _ = pictures([1] * 5, channels, seed=1)
    images, labels = pictures([2] * 5, channels)
    classifier = FewShotClassifier.load(path).fit(images, labels)
    want = classifier.predict_proba(queries)
    pils = [Image.fromarray(query.squeeze()) for query in queries]
    for i, image in enumerate(pils):
        image.save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    kinds = [pils, tuple(paths), map(str, paths), list(queries), torch.from_numpy(queries), floats(queries)]
    kinds += [floats(queries).double().numpy(), [paths[0], pils[1], queries[2], *floats(queries)[3:]]]
    kinds += [queries / 255.0, torch.from_numpy(queries).permute(0, 3, 1, 2)]
    for kind in kinds if channels == 3 else [*kinds, queries[..., 0]]:
        assert (classifier.predict_proba(kind) == want).all()
    assert (FewShotClassifier.load(path).fit(paths, range(5)).classes_ == range(5)).all()


def test_images_of_any_size_and_mode_are_read_as_in_training(tmp_path):
    wide = np.zeros((2 * SIZE, 4 * SIZE, 3), np.uint8)
    wide[:, SIZE : 3 * SIZE] = 255
    photo = FewShotClassifier.load(checkpoint(tmp_path / "photo.safetensors"))
    assert photo._read([wide, Image.fromarray(wide).convert("CMYK")]).float().mean() > 250
    mini = FewShotClassifier.load(checkpoint(tmp_path / "mini.safetensors", data="mini-imagenet"))
    assert mini._read([wide]).float().mean() == pytest.approx(127.5)
    turned = Image.fromarray(pictures([1])[0][0])
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    with Image.open(tmp_path / "turned.png") as opened:
        assert (photo._read([opened]) == photo._read([tmp_path / "turned.png"])).all()
    assert (photo._read([opened]) != photo._read([np.asarray(turned)])).any()


def test_ink_on_light_paper_is_inverted_for_networks_that_saw_light_ink(tmp_path):
    images, labels = pictures([3] * 5, 1)
    queries, _ = pictures([3] * 5, 1, seed=1)
    classifier = FewShotClassifier.load(checkpoint(tmp_path / "ink.safetensors", "omniglot", 1)).fit(images, labels)
    want = classifier.predict_proba(queries)
    assert (classifier.predict_proba([*queries[:7], *(255 - queries[7:])]) == want).all()  # each by its own border
    colour = Image.fromarray(255 - queries[0, ..., 0]).convert("RGB")
    assert (classifier.predict_proba([colour]) == want[:1]).all()
    classifier.invert = False
    assert not np.allclose(classifier.predict_proba(255 - queries), want, atol=1e-3)
    classifier.invert = True
    assert (classifier.predict_proba(255 - queries) == want).all()
    photo = fitted(checkpoint(tmp_path / "photo.safetensors"))
    assert (photo._read(list(255 - pictures([1] * 5)[0])).numpy() == 255 - pictures([1] * 5)[0]).all()


def test_a_path_is_to_be_loaded(trained):
    with pytest.raises(ValueError, match=r"got a path: use FewShotClassifier.load\('"):
        FewShotClassifier(trained)


ONE = np.zeros((1, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images"),
        ("cat.png", r"sequence of images, got str; give a single one as \[image\]"),
        (Image.new("RGB", (9, 9)), "give a single one as"),
        (None, "got NoneType"),
        (torch.rand(3, 16, 16), r"\(3, 16, 16\) may be one image or 3: give one as \[image\]"),
        (np.random.rand(4, 16, 16), r"3 channels, got float64 \(16, 16\); .* Give a single image as \[image\]"),
        (np.zeros((2, 0, 0)), "image 0 cannot be read: expected a path"),
        (["no/such/cat.png"], "there is no image no/such/cat.png"),
        ([Path(__file__)], r"test_classifier.py cannot be read: not an image"),
        ([Path(__file__).parent], r"tests cannot be read: \w+"),
        ([*ONE, ONE[0, ..., :1]], r"image 1 cannot be read: the network takes 3 channels, got uint8 \(16, 16, 1\)"),
        (ONE[0], r"image 0 .*got uint8 \(16, 3\). Give a single image as \[image\]"),
        (ONE.astype(np.int64), r"image 0 .*expected .*, uint8 .*got int64 \(16, 16, 3\)"),
        (torch.full((1, 3, 9, 9), 255.0), r"in \[0, 1\]; got floats from 255.0 to 255.0"),
        (torch.full((1, 3, 9, 9), torch.nan), "got floats from nan to nan"),
        ([None], r"image 0 .*got object \(\)"),
        (torch.rand(1, 4, 9, 9), r"takes 3 channels, got float32 \(4, 9, 9\)"),
    ],
)
def test_images_that_will_not_do_are_named(trained, images, message):
    classifier = fitted(trained)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        classifier.predict(images)
    assert "\n" not in str(caught.value)


def test_damaged_images_are_named(trained, tmp_path):
    Image.fromarray(ONE[0]).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cut.png cannot be read: \w+"):
        FewShotClassifier.load(trained).fit([tmp_path / "whole.png", tmp_path / "cut.png"], ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "a"], "4 images but 3 labels"),
        (["a", "a", "a", "a"], "all 4 images are of the class 'a'; give two classes or more"),
        ("abcd", "expected a sequence of labels, one an image, got str"),
        ([["a"], ["b"], ["a"], ["b"]], r"hashable value, got \['a'\]"),
        ([1.0, float("nan"), 1.0, 2.0], "got nan"),
    ],
)
def test_labels_that_will_not_do(trained, labels, message):
    classifier = fitted(trained)
    images, _ = pictures([1] * 4)
    with pytest.raises(ValueError, match=message):
        classifier.fit(images, labels)
    assert classifier.classes_.tolist() == list(WORDS[:5])  # nothing lost


def test_it_says_that_it_is_not_fitted(trained, tmp_path):
    classifier = FewShotClassifier.load(trained)
    for act in (classifier.predict, classifier.predict_proba, lambda _: classifier.save(tmp_path / "x")):
        with pytest.raises(ValueError, match=r"call fit\(images, labels\) first"):
            act(ONE)
    with pytest.raises(ValueError, match="2 images but 1 labels"):
        fitted(trained).score([1, 2], [1])


def test_checkpoints_that_will_not_do(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        FewShotClassifier.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        FewShotClassifier.load(tmp_path / "sub")
    for name, data in (("cut", trained.read_bytes()[:-9]), ("text", b"hello")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="is cut off or not a checkpoint"):
            FewShotClassifier.load(tmp_path / name)
    tensors, metadata = load_checkpoint(trained)
    save_checkpoint(tmp_path / "last.safetensors", tensors, {"iteration": 3})
    with pytest.raises(ValueError, match=r"not a trained network; use best.safetensors"):
        FewShotClassifier.load(tmp_path / "last.safetensors")
    save_checkpoint(tmp_path / "other", {"w": torch.zeros(3)}, metadata)
    with pytest.raises(ValueError, match="belongs to another network"):
        FewShotClassifier.load(tmp_path / "other")
    assert fitted(tmp_path).method_ == "head"  # a run's folder


def test_settings_that_will_not_do(trained):
    for settings, message in (
        ({"method": "knn"}, "method must be"),
        ({"statistics": "batch"}, "statistics must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            FewShotClassifier.load(trained, **settings)
    with pytest.raises(ValueError, match="no device 'gpu' here"):
        FewShotClassifier.load(trained, device="gpu")


def test_it_runs_on_the_best_device_there_is(trained, monkeypatch):
    asked = []
    monkeypatch.setattr("innerloop.classifier.pick_device", lambda name: asked.append(name) or torch.device("cpu"))
    FewShotClassifier.load(trained)
    assert asked == ["auto"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_says_the_same(trained):
    queries, _ = pictures([4] * 5, seed=1)
    there = fitted(trained, device="cuda").predict_proba(queries)
    assert np.allclose(there, fitted(trained).predict_proba(queries), atol=0.05)  # TF32


def test_a_support_folder_has_one_sub_folder_a_class(trained, tmp_path):
    root = tmp_path / "pets"
    images, labels = pictures([3, 2, 4])
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / WORDS[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / WORDS[label] / f"{i}.png")
    (root / "notes.txt").write_text("not a class")
    (root / "ant" / "notes.txt").write_text("not an image")
    (root / ".git").mkdir()
    paths, names = read_folder(str(root))
    assert names == ["ant"] * 3 + ["bee"] * 2 + ["cat"] * 4
    assert [path.parent.name for path in paths] == names
    assert FewShotClassifier.load(trained).fit(paths, names).classes_.tolist() == ["ant", "bee", "cat"]
    (root / "dog").mkdir()
    with pytest.raises(ValueError, match="has classes without images: dog; add images"):
        read_folder(root)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none; expected a folder with one sub-folder"):
        read_folder(root / "none")
    with pytest.raises(ValueError, match=r"notes.txt is a file; expected"):
        read_folder(root / "notes.txt")
    with pytest.raises(ValueError, match="its images lie directly in it"):
        read_folder(root / "bee")


@pytest.mark.parametrize(("algorithm", "outputs"), [("multiclass", 40), ("multitask", 5), ("nil", 5)])
def test_a_network_trained_without_an_inner_loop_compares_features(tmp_path, algorithm, outputs):
    path = checkpoint(tmp_path / "best.safetensors", algorithm=algorithm)
    tensors, metadata = load_checkpoint(path)
    features = tensors["head.weight"].shape[1]
    head = {"head.weight": torch.zeros(outputs, features), "head.bias": torch.zeros(outputs)}
    save_checkpoint(path, {**tensors, **head}, metadata)
    queries, truth = pictures([8] * 6, seed=1)
    for ways in (3, 5, 6):  # fewer than a training task has, as many, more
        classifier = fitted(path, ways)
        assert (classifier.method_, len(classifier.classes_)) == ("nil", ways)
    assert classifier.score(queries, [WORDS[i] for i in truth]) > 0.3
    classifier.save(tmp_path / "mine")
    again = FewShotClassifier.load(tmp_path / "mine")
    assert (again.predict_proba(queries) == classifier.predict_proba(queries)).all()
    for ways in (3, 6):
        with pytest.raises(ValueError, match=f'{algorithm} training leaves no head that adapts: use method "nil"'):
            fitted(path, ways, method="head")
