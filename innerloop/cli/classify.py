"""innerloop classify"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from innerloop.choices import Statistics
from innerloop.cli.errors import say
from innerloop.data.files import listed, walk

if TYPE_CHECKING:
    import numpy as np

    from innerloop.classifier import FewShotClassifier

_DEPTH = 4  # levels of sub-folders whose images are classified too


@dataclass(frozen=True)
class Classify:
    """Learn your classes from a few images each, and name other images."""

    given: Positional[tuple[Path, ...]]
    """best.safetensors of a run, or the run's folder, unless there is --backbone; then images to classify, or folders
    of them"""
    support: Path
    """a folder with one sub-folder of labelled images a class"""
    backbone: str | None = None
    """a pretrained network instead of a run: auto, efficientnet-lite0, timm/NAME, a folder that save_pretrained wrote,
    or a name on the Hugging Face hub"""
    method: Literal["auto", "head", "nil"] = "auto"
    """adapt the head, or compare features (nil); auto: the head if it has an output for every class"""
    statistics: Statistics = "support"
    """whose statistics normalise an image; "support" makes each prediction independent of the others"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        from innerloop.data.labelled import read_folder

        checkpoint, images = (None, self.given) if self.backbone else (self.given[:1], self.given[1:])
        if not images:
            raise ValueError(
                "no images to classify; give one or more" + (" after the checkpoint" if checkpoint else "")
            )
        images = [image for given in images for image in _images(given.expanduser())]
        classifier = self._classifier()
        classifier.fit(*read_folder(self.support))
        images, pictures, bad = _read(classifier, images)
        if not images:
            raise ValueError(listed(bad))
        rows = classifier.predict_proba(pictures)
        names = [str(name) for name in classifier.classes_]
        if classifier.method_ != "head":
            rule = "NIL" if classifier.method_ == "nil" else type(classifier.method_).__name__
            say(f"{len(names)} classes by their features alone ({rule}): shares rank the classes and are no confidence")
        answers = [
            {
                "image": str(image),
                "label": names[int(row.argmax())],
                "probabilities": dict(zip(names, map(float, row), strict=True)),
            }
            for image, row in zip(images, rows, strict=True)
        ]
        if self.json:
            print(json.dumps(answers, indent=1))
        else:
            for answer in answers:
                ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
                print(answer["image"], *(f"{name} {chance:.1%}" for name, chance in ranked[:5]), sep="  ")
        if bad:
            raise ValueError(f"{listed(bad)}; of the other {len(images)} the answers are above")

    def _classifier(self) -> FewShotClassifier:
        from innerloop.classifier import FewShotClassifier

        settings: dict[str, Any] = {"method": self.method, "statistics": self.statistics, "device": self.device}
        if self.backbone is None:
            return FewShotClassifier.load(self.given[0], **settings)
        return FewShotClassifier.from_backbone(self.backbone, **settings)


def _read(classifier: FewShotClassifier, images: list[Path]) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """The images that can be read, their pixels, and what is wrong with the others.

    So one bad file does not cost the answers for a whole folder.
    """
    good, pictures, bad = [], [], []
    for image in images:
        try:
            pictures.append(classifier.read(image))
            good.append(image)
        except (ValueError, FileNotFoundError) as error:
            bad.append(str(error))
    return good, pictures, bad


def _images(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    if not (found := [given / file.name for file in walk(given, _DEPTH)]):
        raise ValueError(f"there are no images in {given}")
    return found
