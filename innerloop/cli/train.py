"""innerloop train"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from innerloop.cli.errors import percent, say
from innerloop.data.files import whole_path
from innerloop.runs.config import Spec
from innerloop.runs.means import Compute, Source
from innerloop.runs.presets import FOLDER, PRESETS, preset
from innerloop.runs.schedule import Logging


def start_of(what: str) -> Spec:
    """The settings that `innerloop train WHAT` starts from; a folder is known by its whole path, wherever you are.

    Raises:
        ValueError: it is neither a preset nor there.
    """
    if what in PRESETS or not what or not Path(what).expanduser().exists():
        return preset(what)
    return FOLDER.where(data=whole_path(what))


@dataclass(frozen=True)
class Train:
    """Meta-train on a preset or on your own folder, then test. Started again, it goes on where it stopped."""

    what: Annotated[
        Positional[str],
        arg(metavar="WHAT", help=f"a preset ({', '.join(PRESETS)}), or a folder with one sub-folder of images a class"),
    ]
    spec: OmitArgPrefixes[Spec]
    compute: OmitArgPrefixes[Compute] = field(default_factory=Compute)
    source: OmitArgPrefixes[Source] = field(default_factory=Source)
    logging: OmitArgPrefixes[Logging] = field(default_factory=Logging)
    out: Path | None = None
    """the run's folder; runs/<what is learnt>-<its settings but iterations> if not given"""

    def run(self) -> None:
        from innerloop.data import data_set
        from innerloop.parallel.ranks import follows
        from innerloop.runs.images import result_of, train_images

        problem, data = self.spec.problem, data_set(self.spec.problem.data)
        if data.name != start_of(self.what).problem.data:
            raise ValueError(
                f"{self.what} says what to train on, and --data {problem.data} something else: leave --data out"
            )
        split = whole_path(problem.split) if problem.split and data.own else problem.split
        spec = self.spec.where(data=data.name, split=split)
        out = self.out or Path("runs") / spec.folder
        if follows():
            train_images(spec, out, self.compute, self.source, self.logging)
        done = result_of(spec, out) is not None
        say(f"{spec.title}: {spec.schedule.iterations} iterations in {out}{', done before' if done else ''}")
        if done and (data.last_changed() or 0) > (out / "result.json").stat().st_mtime:
            say(
                f"images in {data.name} have changed since: another --out learns all of them; more --iterations here "
                "go on with the classes that this run began with, and with what was added to train/"
            )
        result = train_images(spec, out, self.compute, self.source, self.logging)
        for name, score in result["test"].items():
            print(f"{name:8} {percent(score)}  ({score['episodes']} episodes, statistics: {score['statistics']})")
        say(f"trained network: {out / 'best.safetensors'} (iteration {result['best_at']})")
