"""Meta-RL runs as results/rl holds them: the curve of each run, what its best policy was tested at, and a figure.

python benchmarks/rl_results.py RUNS... --out results/rl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

PAPER = {  # Table 2
    ("cheetah-direction", "maml"): (170.4, 21.0),
    ("cheetah-direction", "anil"): (363.2, 14.8),
    ("cheetah-velocity", "maml"): (-139.0, 18.9),
    ("cheetah-velocity", "anil"): (-120.9, 6.3),
    ("navigation", "maml"): (-20.3, 3.2),
    ("navigation", "anil"): (-20.1, 2.3),
}
COLOURS = {"maml": "#4f6db0", "anil": "#c96a34"}


def main() -> None:
    """Write runs.json and curves.svg, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/rl"))
    given = parser.parse_args()
    found = [run(folder) for folder in given.runs if (folder / "metrics.jsonl").exists()]
    found.sort(key=lambda one: (one["task"], one["algorithm"], one["seed"]))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "runs.json").write_text(json.dumps(found))
    figure(found, given.out / "curves.svg")
    print("| task | algorithm | seed | iterations | best at | minutes | before | after | paper, after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in found:
        print(row(one))


def run(folder: Path) -> dict[str, Any]:
    """What a run's folder says, finished or not."""
    spec = json.loads((folder / "spec.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [[line["iteration"], line["return_before"], line["return_after"]] for line in lines if "kl" in line]
    one = {"task": spec["task"], "algorithm": spec["learning"]["algorithm"], "seed": spec["seed"], "settings": spec}
    one["curve"] = [[number, round(before, 2), round(after, 2)] for number, before, after in curve]
    result = folder / "result.json"
    return one | ({"result": json.loads(result.read_text())} if result.exists() else {})


def row(one: dict[str, Any]) -> str:
    """A line of the table."""
    mean, spread = PAPER[one["task"], one["algorithm"]]
    cells = [one["task"], one["algorithm"].upper(), one["seed"], len(one["curve"])]
    if "result" in one:
        result = one["result"]
        scores = result["test"][one["algorithm"]]
        returns = [f"{r:.1f} ± {i:.1f}" for r, i in zip(scores["returns"], scores["intervals"], strict=True)]
        cells += [result["best_at"], f"{result['train_seconds'] / 60:.0f}", returns[0], returns[-1]]
    else:
        cells += ["-", "-", "not tested yet", "not tested yet"]
    return "| " + " | ".join(map(str, [*cells, f"{mean} ± {spread}"])) + " |"


def figure(found: list[dict[str, Any]], path: Path) -> None:
    """Returns over training, one panel a task: after adaptation in full colour, before it faint."""
    tasks = list(dict.fromkeys(one["task"] for one in found))
    whole = Figure(figsize=(4.2 * len(tasks), 3.2), layout="constrained")
    for axes, task in zip(whole.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        seen: set[str] = set()
        for one in (one for one in found if one["task"] == task):
            algorithm, numbers = one["algorithm"], list(zip(*one["curve"], strict=True))
            label = None if algorithm in seen else f"{algorithm.upper()}, after adaptation"
            axes.plot(numbers[0], numbers[2], color=COLOURS[algorithm], linewidth=1, label=label)
            axes.plot(numbers[0], numbers[1], color=COLOURS[algorithm], linewidth=0.7, alpha=0.35)
            if algorithm not in seen:
                mean, _ = PAPER[task, algorithm]
                axes.axhline(mean, color=COLOURS[algorithm], linewidth=0.7, linestyle=":")
            seen.add(algorithm)
        axes.set(title=task, xlabel="iteration", ylabel="mean return")
        axes.legend(fontsize=7, frameon=False, title="faint: before; dotted: the paper", title_fontsize=6)
    whole.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
