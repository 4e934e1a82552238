"""What drawing a meta batch costs, as a share of the training step on it.

Presets as they are, on a bank as large as the real training classes, of random pixels. Sampling and steps take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import innerloop
from innerloop.outer import meta_train
from innerloop.runs.images import training_stream
from innerloop.runs.presets import PRESETS

BANKS = {"omniglot": (1100, 20, (28, 28, 1)), "mini-imagenet": (64, 600, (84, 84, 3))}  # classes, images, (h, w, c)
CASES = ("mini-imagenet-5way-1shot", "mini-imagenet-5way-5shot", "omniglot-5way-1shot", "omniglot-20way-1shot")


def main() -> None:
    """Print a line for every preset and algorithm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    innerloop.tune_cpu()
    torch.set_num_threads(given.threads)
    found = [share(name, algorithm, given.rounds) for name in CASES for algorithm in ("maml", "anil")]
    if given.out:
        given.out.write_text(json.dumps({"threads": given.threads, "found": found}, indent=1))


def share(name: str, algorithm: str, rounds: int) -> dict[str, Any]:
    """Medians over rounds, in seconds; the first round is not counted."""
    spec = replace(PRESETS[name], algorithm=algorithm, iterations=rounds + 1)
    classes, images, shape = BANKS[spec.data]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (classes * images, *shape), dtype=torch.uint8, generator=generator)
    names = [str(i) for i in range(classes)]
    bank = innerloop.Bank.stack(
        pixels, [images] * classes, names, name="noise", white=255, turns=spec.data == "omniglot"
    )
    model = spec.build(bank.shape)
    adam = torch.optim.Adam(model.parameters(), spec.meta_lr)
    stream = training_stream(bank, spec)
    sampling, steps = [], []
    for i in range(rounds + 1):
        begun = time.perf_counter()
        episodes = stream[i]
        drawn = time.perf_counter()
        next(meta_train(model, [episodes], spec.predictor(), adam, clip=spec.clip))
        sampling.append(drawn - begun)
        steps.append(time.perf_counter() - drawn)
    one, other = statistics.median(sampling[1:]), statistics.median(steps[1:])
    print(
        f"{name} {algorithm}: sampling {1000 * one:.1f} ms, step {1000 * other:.1f} ms, {one / other:.1%}", flush=True
    )
    return {"preset": name, "algorithm": algorithm, "sampling": one, "step": other}


if __name__ == "__main__":
    main()
