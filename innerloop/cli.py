"""The command line: a thin layer over the library, made from dataclasses."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from innerloop.console import again, explain, percent, say, unboxed
from innerloop.cpu import tune_cpu
from innerloop.norm import Norm
from innerloop.runs.execute import How, Interrupted, open_data, pick_device, score_dict, test_stream, train
from innerloop.runs.learner import load_learner
from innerloop.runs.presets import FOLDER, PRESETS, preset
from innerloop.runs.spec import Spec


@dataclass(frozen=True)
class Train:
    """Meta-train on a preset or on your own folder, then test. Started again, it goes on where it stopped."""

    what: Annotated[
        Positional[str],
        arg(metavar="WHAT", help=f"a preset ({', '.join(PRESETS)}), or a folder with one sub-folder of images a class"),
    ]
    spec: OmitArgPrefixes[Spec]
    how: OmitArgPrefixes[How] = field(default_factory=How)
    out: Path | None = None
    """the run's folder; runs/<what is learnt>-<its settings> if not given"""

    def run(self) -> None:
        out = self.out or Path("runs") / f"{self.spec.title}-{self.spec.key}"
        say(f"{self.spec.title}: {self.spec.iterations} iterations in {out}")
        result = train(self.spec, out, self.how)
        for name, score in result["test"].items():
            print(f"{name:8} {percent(score)}  ({score['episodes']} episodes, norm: {score['norm']})")
        say(f"trained network: {out / 'best.safetensors'} (iteration {result['best_at']})")


@dataclass(frozen=True)
class Evaluate:
    """Test a trained network on fresh episodes: accuracy after every inner step, with 95 % intervals."""

    checkpoint: Positional[Path]
    """best.safetensors of a run, or the run's folder"""
    predictor: Literal["own", "nil"] = "own"
    """the inner loop it was trained with, or NIL: no head, cosine to the support features"""
    freeze: tuple[str, ...] = ()
    """layers that the inner loop must not adapt, such as block1 block2"""
    norm: Norm = "transductive"
    """whose statistics normalise a query image: the query set's, the support set's, or its own (single)"""
    steps: int | None = None
    """inner steps; as in the run's own test if not given"""
    way: int | None = None
    """classes of a task; NIL takes any number, the head only what it was trained with"""
    shot: int | None = None
    """support images a class"""
    query: int | None = None
    """query images a class"""
    episodes: int | None = None
    """episodes of the test"""
    part: Literal["train", "val", "test"] = "test"
    """the classes to draw from"""
    data: str | None = None
    """other data than it was trained on"""
    how: OmitArgPrefixes[How] = field(default_factory=How)
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        from innerloop.outer import evaluate
        from innerloop.rules import NIL, freeze

        model, spec, shape, _ = load_learner(self.checkpoint)
        changes = {name: getattr(self, name) for name in ("way", "shot") if getattr(self, name) is not None}
        if self.data is not None:
            changes |= {"data": self.data, "split": ""}
        if self.steps is not None:
            changes["test_steps"] = self.steps
        asked = replace(spec, **changes)
        if self.predictor == "own" and asked.way != spec.way:
            raise ValueError(
                f"the head has {spec.way} outputs, not {asked.way}: leave --way out or use --predictor nil"
            )
        device = pick_device(self.how.device)
        bank = getattr(open_data(asked, self.how), self.part).to(device)
        if bank.shape != shape:
            raise ValueError(f"the network takes images of {shape} (c, h, w), {bank.name} has {bank.shape}")
        query = (spec.test_query or asked.shot) if self.query is None else self.query
        stream = test_stream(bank, asked, spec.test_episodes if self.episodes is None else self.episodes, query)
        predictor = NIL(way=asked.way) if self.predictor == "nil" else freeze(asked.test_rule(), *self.freeze)
        score = evaluate(predictor, model.to(device), stream, norm=self.norm, at_once=self.how.at_once)
        if self.json:
            print(json.dumps(score_dict(score)))
            return
        for step, (mean, half) in enumerate(score.per_step):
            print(f"{step:2} steps  {100 * mean:.2f} ± {100 * half:.2f} %")
        say(f"{asked.way}-way {asked.shot}-shot on {bank.name}, {query} queries a class: {score}")


@dataclass(frozen=True)
class Classify:
    """Learn your classes from a few images each, and name other images."""

    checkpoint: Positional[Path]
    """best.safetensors of a run, or the run's folder"""
    images: Positional[tuple[Path, ...]]
    """images to classify"""
    support: Path
    """a folder with one sub-folder of labelled images a class"""
    method: Literal["auto", "head", "nil"] = "auto"
    """adapt the head, or compare features (nil); auto: the head if it has an output for every class"""
    norm: Norm = "support"
    """whose statistics normalise an image; "support" makes each prediction independent of the others"""
    device: str = "cpu"
    """cpu, cuda or auto"""
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        from innerloop.classifier import FewShotClassifier, read_folder

        if not self.images:
            raise ValueError("no images to classify; give one or more after the checkpoint")
        classifier = FewShotClassifier.load(self.checkpoint, method=self.method, norm=self.norm, device=self.device)
        classifier.fit(*read_folder(self.support))
        rows = classifier.predict_proba(list(self.images))
        names = [str(name) for name in classifier.classes_]
        answers = [
            {
                "image": str(image),
                "label": names[int(row.argmax())],
                "probabilities": dict(zip(names, map(float, row), strict=True)),
            }
            for image, row in zip(self.images, rows, strict=True)
        ]
        if self.json:
            print(json.dumps(answers, indent=1))
            return
        for answer in answers:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
            print(answer["image"], *(f"{name} {chance:.1%}" for name, chance in ranked[:5]), sep="  ")


@dataclass(frozen=True)
class Data:
    """Look at data sets: list them, prepare (download, decode, cache), check, or draw a contact sheet."""

    action: Positional[Literal["list", "prepare", "check", "sheet"]]
    what: Positional[str] = ""
    """glyphs, omniglot, mini-imagenet, or a folder with one sub-folder of images a class"""
    part: Literal["train", "val", "test"] = "test"
    """the classes on the sheet"""
    size: int | None = None
    """pixels a side; the data's usual if not given"""
    split: str = ""
    """of omniglot: reference or official; of a folder: a split file"""
    out: Path = Path("sheet.png")
    """where the sheet goes"""
    how: OmitArgPrefixes[How] = field(default_factory=How)

    def run(self) -> None:
        from innerloop.data import NAMES

        if self.action == "list":
            for name in NAMES:
                print(f"{name:15}", *(key for key in PRESETS if key.startswith(name)))
            print(f"{'your folder':15} one sub-folder of images a class")
            return
        if not self.what:
            raise ValueError(f"which data? Give one of {', '.join(NAMES)}, or a folder")
        usual = 28 if self.what in ("glyphs", "omniglot") else 84
        splits = open_data(Spec(data=self.what, size=self.size or usual, split=self.split), self.how)
        table = Table("part", "classes", "images", "images a class", "groups", "size")
        for name, bank in splits._asdict().items():
            sizes = bank.sizes
            spread = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
            shape = "x".join(map(str, bank.shape))
            table.add_row(name, str(len(bank)), str(sum(sizes)), spread, str(len(set(bank.groups))), shape)
        Console().print(table)
        if self.action == "sheet":
            from innerloop.data.sheet import contact_sheet

            contact_sheet(getattr(splits, self.part)).save(self.out)
            say(f"wrote {self.out}")


@dataclass(frozen=True)
class Demo:
    """Meta-train MAML and ANIL on glyphs, test them on scripts never seen, freeze the body, draw the outcome."""

    out: Path = Path("demo")
    """where runs and the picture go"""
    how: OmitArgPrefixes[How] = field(default_factory=How)

    def run(self) -> None:
        from innerloop.demo import demo

        demo(self.out, self.how)


def main() -> None:
    """Entry point: user mistakes end in one line and exit code 1."""
    Command = (  # noqa: N806  a type
        Annotated[Demo, subcommand("demo")]
        | Annotated[Train, subcommand("train", default=_train_defaults(sys.argv[1:]))]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Classify, subcommand("classify")]
        | Annotated[Data, subcommand("data")]
    )
    warnings.formatwarning = lambda message, *_, **__: f"innerloop: warning: {message}\n"
    try:
        command = _parsed(Command)
        tune_cpu()
        command.run()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        if os.environ.get("INNERLOOP_TRACEBACK"):
            raise
        sys.exit(f"innerloop: {explain(error)}")
    except (KeyboardInterrupt, Interrupted) as stopped:
        say(f"innerloop: {str(stopped) or 'interrupted'}. To go on: {again()}")
        sys.exit(130)


_ABOUT = "Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between."


def _train_defaults(arguments: list[str]) -> Any:
    """The settings that `innerloop train WHAT` starts from, so that --help shows them."""
    what = arguments[1] if arguments[:1] == ["train"] and len(arguments) > 1 else "--help"
    if what in ("-h", "--help"):
        return Train(tyro.MISSING, PRESETS["glyphs-5way-1shot"])
    if what.startswith("-"):  # the preset's settings must be known before they are changed
        sys.exit(f"innerloop: what to train comes first: innerloop train WHAT {shlex.join(arguments[1:])}")
    if what in PRESETS or not what or not Path(what).exists():
        try:
            return Train(what, preset(what))
        except ValueError as error:
            sys.exit(f"innerloop: {error} Or give a folder with one sub-folder of images a class.")
    return Train(what, replace(FOLDER, data=what))


def _parsed(kind: Any) -> Any:
    """The command as given, or exit code 2 and one line, where tyro draws a box with several parts."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, prog="innerloop", description=_ABOUT)
    except SystemExit as left:
        if left.code:
            say(f"innerloop: {unboxed(said.getvalue())}")
        raise


if __name__ == "__main__":
    main()
