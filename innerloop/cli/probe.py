"""innerloop probe"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import OmitArgPrefixes, Positional

from innerloop.cli.errors import say
from innerloop.runs.means import Compute, Source

if TYPE_CHECKING:
    from innerloop.experiments.exhibits import Panel
    from innerloop.reuse.probe import Probe


@dataclass(frozen=True)
class ProbeCommand:
    """Rapid learning or feature reuse? Freeze layer after layer, and compare them before and after adaptation."""

    checkpoint: Positional[Path]
    """best.safetensors of a run, or the run's folder"""
    algorithm: Literal["maml", "anil", "boil"] | None = None
    """another inner loop than its own, of the same step size: maml asks whether an anil run's body would learn"""
    steps: int | None = None
    """inner steps; as in the run's own test if not given"""
    shot: int | None = None
    """support images a class"""
    query: int = 15
    """query images a class; fewer where a class has fewer images"""
    episodes: int = 200
    """episodes for the accuracies"""
    compared: int = 50
    """episodes on which layers are compared"""
    part: Literal["train", "val", "test"] = "test"
    """the classes to draw from"""
    data: str | None = None
    """other data than it was trained on"""
    out: Path = Path("probe.png")
    """where the figure goes: .png or .svg"""
    compute: OmitArgPrefixes[Compute] = field(default_factory=Compute)
    source: OmitArgPrefixes[Source] = field(default_factory=Source)
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        from innerloop.data import data_set
        from innerloop.device import pick_device
        from innerloop.reuse.probe import probe
        from innerloop.runs.images import test_stream
        from innerloop.runs.load import load
        from innerloop.runs.sources import bank_for

        if self.out.suffix not in (".png", ".svg"):
            raise ValueError(f"--out ends in .png or .svg, got {self.out}")
        learner = load(self.checkpoint)
        model, spec = learner.model, learner.spec
        changes: dict[str, Any] = {} if self.shot is None else {"shot": self.shot}
        if self.data is not None and data_set(self.data).name != spec.problem.data:
            changes |= {"data": data_set(self.data).name, "split": ""}
        if self.algorithm is not None:
            changes |= {"algorithm": self.algorithm, "adapt": (), "body": ""}
        if self.steps is not None:
            changes["test_steps"] = self.steps
        asked = spec.where(**changes)
        if not asked.inner.test_rule().adapt:
            raise ValueError(
                f"{spec.inner.algorithm} training has no inner loop to look into; give one with --algorithm maml"
            )
        device = pick_device(self.compute.device)
        bank = bank_for(learner, asked.problem, self.source, self.part).to(device)
        query = min(self.query, max(min(bank.sizes) - asked.problem.shot, 1))
        found = probe(
            model.to(device),
            test_stream(bank, asked.problem, self.episodes, query),
            asked.inner.test_rule(),
            compared=test_stream(bank, asked.problem, self.compared, query),
            chunk_size=self.compute.chunk_size,
            progress=True,
        )
        _draw(found, self.out)
        say(f"figure: {self.out}")
        if self.json:
            print(json.dumps(_as_dict(found), indent=1))
            return
        ways, shots = asked.problem.way, asked.problem.shot
        about = f"{ways}-way {shots}-shot on {bank.name}, {self.episodes} episodes, {query} queries a class"
        Console().print(_table(found, about))
        print(found.verdict)


_CAPTION = (
    "CCA and CKA before and after adaptation, the CCA of unrelated images, how far the weights moved, and the accuracy "
    "with this layer and all before it frozen"
)


def _table(found: Probe, title: str) -> Table:
    names = ("CCA", "unrelated", "CKA", "moved", "accuracy %")
    columns = (Column(name, justify="right", no_wrap=True) for name in names)
    table = Table(Column("layer", overflow="fold"), *columns, title=title, caption=_CAPTION)
    table.add_row("(none frozen)", "", "", "", "", _percent(found, 0))
    for i, layer in enumerate(found.layers, start=1):
        change = found.change
        values = change.cca, change.permuted["cca"], change.cka, change.distance
        numbers = (f"{by_layer[layer]:.3f}" for by_layer in values)
        table.add_row(layer, *numbers, _percent(found, i) if i < len(found.layers) else "")
    table.add_row("(NIL: no head)", "", "", "", "", f"{100 * found.nil.mean:.2f} ± {100 * found.nil.interval:.2f}")
    return table


def _percent(found: Probe, frozen: int) -> str:
    score = found.freezing[frozen]
    return f"{100 * score.mean:.2f} ± {100 * score.interval:.2f}"


def _as_dict(found: Probe) -> dict[str, Any]:
    from innerloop.runs.images import score_dict

    return {
        "layers": found.layers,
        "freezing": [score_dict(score) for score in found.freezing],
        "nil": score_dict(found.nil),
        "change": asdict(found.change),
        "verdict": found.verdict,
    }


def _panels(found: Probe) -> tuple[Panel, ...]:
    from innerloop.experiments.exhibits import Panel, Series

    layers = tuple(found.layers)
    means = tuple(100 * score.mean for score in found.freezing)
    halves = tuple(100 * score.interval for score in found.freezing)
    nil = Series("NIL (no head)", ("NIL",), (100 * found.nil.mean,), (100 * found.nil.interval,))
    change = found.change
    return (
        Panel(
            "Accuracy with layers frozen",
            "last layer frozen",
            "accuracy %",
            (Series("own inner loop", ("none", *layers[:-1]), means, halves), nil),
        ),
        Panel(
            "Similarity before and after adaptation",
            "layer",
            "similarity",
            tuple(
                Series(name, layers, tuple(values[layer] for layer in layers))
                for name, values in (
                    ("CCA", change.cca),
                    ("CKA", change.cka),
                    ("CCA of unrelated images", change.permuted["cca"]),
                )
            ),
            y_range=(0, 1.02),
        ),
        Panel(
            "How far the weights move",
            "layer",
            "Euclidean distance",
            (Series(f"mean over {change.tasks} tasks", layers, tuple(change.distance[layer] for layer in layers)),),
            kind="bars",
        ),
    )


def _draw(found: Probe, path: Path) -> None:
    from innerloop.report.plot import png, svg
    from innerloop.runs.checkpoint import write_whole

    panels = _panels(found)
    write_whole(path, svg(panels, found.verdict) if path.suffix == ".svg" else png(panels))
