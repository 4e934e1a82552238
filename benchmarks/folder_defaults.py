"""Which settings `innerloop train FOLDER` should start from: small runs over sizes, ways, shots, grey and RGB.

    python -m benchmarks.folder_defaults ../shared/data results/folder-defaults.json

Every cell of the grid is a folder of images, as a user has one; each candidate is trained on it for a few steps and
tested on classes it has not seen. A run that is in the results is not made again, so it can be stopped at any time.
`--show` prints the table: accuracy in %, and last how far a candidate is behind the best one, at its worst cell.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zipfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from innerloop import anil, evaluate, meta_train
from innerloop.data import folder_splits
from innerloop.data.splits import Splits
from innerloop.models import conv4
from innerloop.norm import TaskNorm


@dataclass(frozen=True)
class Cell:
    """Data, and the tasks drawn from it."""

    data: str
    size: int
    way: int
    shot: int
    iterations: int

    @property
    def name(self) -> str:
        return f"{self.data} {self.size}px {self.way}-way {self.shot}-shot"


@dataclass(frozen=True)
class Candidate:
    """What is to be chosen."""

    lr: float
    spatial_mean: bool = False
    meta_lr: float = 1e-3
    by_features: bool = False  # lr is divided by the number of features that the head sees

    @property
    def name(self) -> str:
        features = "mean" if self.spatial_mean else "flat"
        return f"{features} lr {self.lr:g}{' / features' if self.by_features else ''}, outer {self.meta_lr:g}"


CELLS = (
    Cell("gtsrb", 32, 5, 5, 60),
    Cell("gtsrb", 48, 2, 10, 40),
    Cell("mini-imagenet", 84, 5, 5, 20),
    Cell("gtsrb", 128, 2, 1, 25),
    Cell("omniglot", 28, 5, 1, 100),
    Cell("omniglot", 28, 20, 1, 40),
)
CANDIDATES = (
    Candidate(0.1),
    Candidate(0.4, spatial_mean=True, meta_lr=3e-3),
    Candidate(12.8, by_features=True, meta_lr=3e-3),
    Candidate(12.8, by_features=True),
    Candidate(0.02),
)
_TRACK = "(.+)_"  # of GTSRB: frames of one sign never stand on both sides of a task


def unpacked(data: str, shared: Path, out: Path) -> Path:
    """A data set as a folder with one sub-folder a class, and not all of it."""
    root = out / data
    if root.is_dir():
        return root
    archives = {
        "omniglot": [shared / "omniglot/images_evaluation.zip"],
        "mini-imagenet": [shared / "mini-imagenet" / name for name in ("val.zip", "test.zip")],
        "gtsrb": [shared / "gtsrb/gtsrb.zip"],
    }[data]
    made = out / f".{data}"
    for archive in archives:
        with zipfile.ZipFile(archive) as opened:
            names = sorted(name for name in opened.namelist() if not name.endswith("/"))
            counts: dict[str, int] = {}
            for name in names:
                *above, file = name.split("/")
                label = "-".join(above[-2:]) if data == "omniglot" else above[-1]
                counts[label] = counts.get(label, 0) + 1
                if counts[label] <= 60 and (counts[label] > 1 or len(counts) <= 200):
                    (made / label).mkdir(parents=True, exist_ok=True)
                    (made / label / file).write_bytes(opened.read(name))
    made.rename(root)
    return root


def opened(cell: Cell, shared: Path, out: Path) -> Splits:
    options: dict[str, Any] = {"group_by": _TRACK} if cell.data == "gtsrb" else {}
    return folder_splits(unpacked(cell.data, shared, out), size=cell.size, way=cell.way, skip_bad=True, **options)


def run(cell: Cell, candidate: Candidate, data: Splits) -> dict[str, Any]:
    """One training and its test."""
    torch.manual_seed(0)
    channels, _, _ = data.train.shape
    norm = partial(TaskNorm, scale=False, eps=1e-3)
    generator = torch.Generator().manual_seed(0)
    model = conv4(
        cell.way, channels=channels, size=cell.size, spatial_mean=candidate.spatial_mean, norm=norm, generator=generator
    )
    adam = torch.optim.Adam(model.parameters(), candidate.meta_lr)
    lr = candidate.lr / (model.head.in_features if candidate.by_features else 1)
    episodes = data.train.episodes(cell.way, cell.shot, 5, tasks=4, count=cell.iterations)
    begun = time.process_time()
    losses = [float(step.loss) for step in meta_train(model, episodes, anil(5, lr), adam)]
    seconds = time.process_time() - begun
    test = data.test.episodes(cell.way, cell.shot, 5, tasks=4, count=8)
    score = evaluate(model, test, anil(10, lr))
    return {
        "cell": asdict(cell),
        "candidate": asdict(candidate),
        "accuracy": round(score.mean, 4),
        "interval": round(score.interval, 4),
        "first_loss": round(losses[0], 3),
        "last_loss": round(sum(losses[-10:]) / len(losses[-10:]), 3),
        "cpu_seconds": round(seconds, 1),
    }


def show(results: list[dict[str, Any]]) -> None:
    found = {(Cell(**row["cell"]), Candidate(**row["candidate"])): row for row in results}
    cells = [cell for cell in CELLS if any((cell, candidate) in found for candidate in CANDIDATES)]
    best = {cell: max(found[cell, one]["accuracy"] for one in CANDIDATES if (cell, one) in found) for cell in cells}
    print("| candidate |", " | ".join(cell.name for cell in cells), "| behind the best, at most |")
    print("| --- |" + " --- |" * (len(cells) + 1))
    for candidate in CANDIDATES:
        rows = [found.get((cell, candidate)) for cell in cells]
        if not any(rows):
            continue
        texts = ["" if row is None else f"{100 * row['accuracy']:.1f} (loss {row['first_loss']:.1f})" for row in rows]
        behind = [best[cell] - row["accuracy"] for cell, row in zip(cells, rows, strict=True) if row]
        print(f"| {candidate.name} |", " | ".join(texts), f"| {100 * max(behind, default=0):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder with omniglot, mini-imagenet and gtsrb")
    parser.add_argument("out", type=Path, help="the results, a JSON file")
    parser.add_argument("--folders", type=Path, default=Path("/tmp/innerloop-folders"), help="where folders are made")
    parser.add_argument("--show", action="store_true", help="print the table of what there is")
    asked = parser.parse_args()
    results: list[dict[str, Any]] = json.loads(asked.out.read_text()) if asked.out.exists() else []
    if asked.show:
        return show(results)
    torch.set_num_threads(1)
    for candidate in CANDIDATES:
        for cell in CELLS:
            if any(row["cell"] == asdict(cell) and row["candidate"] == asdict(candidate) for row in results):
                continue
            row = run(cell, candidate, opened(cell, asked.shared, asked.folders))
            print(f"{cell.name:32} {candidate.name:28} {row}", flush=True)
            results.append(row)
            partial_file = asked.out.with_suffix(".part")
            partial_file.write_text(json.dumps(results, indent=1))
            os.replace(partial_file, asked.out)
    return None


if __name__ == "__main__":
    main()
