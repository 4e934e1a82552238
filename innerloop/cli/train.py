"""innerloop train"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from innerloop.cli.errors import percent, say
from innerloop.data import NAMES
from innerloop.data.folder import last_changed
from innerloop.parallel.ranks import follows
from innerloop.runs.config import Spec
from innerloop.runs.images import result_of, train_images
from innerloop.runs.presets import FOLDER, PRESETS, preset
from innerloop.runs.sources import How, data_named, whole_path
from innerloop.runs.trainer import Logging


def start_of(what: str) -> Spec:
    """The settings that `innerloop train WHAT` starts from; a folder is known by its whole path, wherever you are.

    Raises:
        ValueError: it is neither a preset nor there.
    """
    if what in PRESETS or not what or not Path(what).expanduser().exists():
        return preset(what)
    return replace(FOLDER, data=whole_path(what))


@dataclass(frozen=True)
class Train:
    """Meta-train on a preset or on your own folder, then test. Started again, it goes on where it stopped."""

    what: Annotated[
        Positional[str],
        arg(metavar="WHAT", help=f"a preset ({', '.join(PRESETS)}), or a folder with one sub-folder of images a class"),
    ]
    spec: OmitArgPrefixes[Spec]
    how: OmitArgPrefixes[How] = field(default_factory=How)
    logging: OmitArgPrefixes[Logging] = field(default_factory=Logging)
    out: Path | None = None
    """the run's folder; runs/<what is learnt>-<its settings but iterations> if not given"""

    def run(self) -> None:
        data, split = data_named(self.spec.data), self.spec.split
        if data != start_of(self.what).data:
            raise ValueError(
                f"{self.what} says what to train on, and --data {self.spec.data} something else: leave --data out"
            )
        spec = replace(self.spec, data=data, split=whole_path(split) if split and data not in NAMES else split)
        out = self.out or Path("runs") / spec.folder
        if follows():
            train_images(spec, out, self.how, self.logging)
        done = result_of(spec, out) is not None
        say(f"{spec.title}: {spec.iterations} iterations in {out}{', done before' if done else ''}")
        if done and _changed_since(data, out / "result.json"):
            say(f"images in {data} have changed since: learn them with another --out, or go on with more --iterations")
        result = train_images(spec, out, self.how, self.logging)
        for name, score in result["test"].items():
            print(f"{name:8} {percent(score)}  ({score['episodes']} episodes, statistics: {score['statistics']})")
        say(f"trained network: {out / 'best.safetensors'} (iteration {result['best_at']})")


def _changed_since(data: str, result: Path) -> bool:
    """Whether a folder of images has changed after a result was written; a data set with a name never does."""
    return data not in NAMES and Path(data).is_dir() and last_changed(Path(data)) > result.stat().st_mtime
