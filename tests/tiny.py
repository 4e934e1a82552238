"""Runs so small that a test can afford many: a folder of pictures, settings, and the command line in this process."""

from __future__ import annotations

import io
import json
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from innerloop.cli import main as cli
from innerloop.data.glyphs import SCRIPTS

PARTS = {"train": 5, "val": 3, "test": 3}  # classes
SETTINGS = {
    "way": 3, "shot": 1, "query": 2, "test-query": 2, "meta-batch": 2, "steps": 2, "test-steps": 3, "lr": 0.4,
    "width": 4, "size": 20, "pooling": "stride", "iterations": 7, "log-every": 2, "val-every": 3, "val-episodes": 4,
    "test-episodes": 6,
}  # fmt: skip


def few_scripts(patch: pytest.MonkeyPatch) -> None:
    """The glyphs of three scripts alone."""
    for part, script in (("train", "Greek"), ("val", "Lao"), ("test", "Hebrew")):
        patch.setitem(SCRIPTS, part, (script,))


def pictures(root: Path, each: int = 5) -> Path:
    """A folder with the parts train, val and test; a class is a pattern under noise."""
    noise = np.random.default_rng(0)
    for part, classes in PARTS.items():
        for number in range(classes):
            folder = root / part / f"{part}{number}"
            folder.mkdir(parents=True)
            pattern = np.kron(noise.integers(0, 200, (5, 5, 3)), np.ones((4, 4, 1)))
            for i in range(each):
                image = pattern + noise.integers(0, 55, pattern.shape)
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def options(**changes: object) -> list[str]:
    """SETTINGS on the command line, some of them changed; True is a flag."""
    settings = SETTINGS | {name.replace("_", "-"): value for name, value in changes.items()}
    return [
        word
        for key, value in settings.items()
        for word in ([f"--{key}"] if value is True else [f"--{key}", str(value)])
    ]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def call(*arguments: object) -> Outcome:
    """`innerloop ARGUMENTS` in this process, on the CPU, without the settings of `tune_cpu`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["innerloop", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch("innerloop.device.tune_cpu"),
        mock.patch.object(warnings, "formatwarning", warnings.formatwarning),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1 if left.code else 0
            if isinstance(left.code, str):  # as the interpreter does
                err.write(left.code + "\n")
    return Outcome(code, out.getvalue(), err.getvalue())


def complaint(outcome: Outcome) -> str:
    """The one line that a user's mistake ends in."""
    lines = [line for line in outcome.err.splitlines() if line.startswith("innerloop: ")]
    assert outcome.code in (1, 2), outcome
    assert outcome.out == ""
    assert len(lines) == 1, outcome.err
    assert outcome.err.splitlines()[-1] == lines[0], outcome.err
    assert "Traceback" not in outcome.err
    return lines[0].removeprefix("innerloop: ")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same_run(run: Path, other: Path) -> None:
    """Two folders hold the same run, bit for bit; only the time it took may differ."""
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = tensors(run / name), tensors(other / name)
        assert ours.keys() == theirs.keys()
        assert all(x.numpy().tobytes() == theirs[key].numpy().tobytes() for key, x in ours.items()), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
    for result in results:
        assert result.pop("train_seconds") >= 0
    assert results[0] == results[1]
    assert not list(run.glob(".*.part"))
