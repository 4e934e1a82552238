"""The settings of the paper, and of the embedded data.

The paper ran cbfinn/maml (a7f45f1). Its inner loss is a sum over the N * K support images divided by K, so its inner
learning rates are multiplied by N here, where the loss is a mean: 0.01 becomes 0.05 at 5-way, 0.1 becomes 2.0 at
20-way. Its clip of 10 on the summed query loss becomes 10 / 75 at 1-shot and 10 / 15 at 5-shot (mini-ImageNet alone
clips). Its norm has a shift, no scale, eps 1e-3, and does not adapt. Iterations are the paper's 30,000.
"""

from __future__ import annotations

from innerloop.choices import did_you_mean
from innerloop.runs.config import Spec

_NORM = {"norm_scale": False, "norm_eps": 1e-3}
_REFERENCE = Spec().where(**_NORM, iterations=30_000, algorithm="maml")

_OMNIGLOT = _REFERENCE.where(
    data="omniglot", split="reference", size=28, way=20, meta_batch=16, lr=2.0, test_steps=10, width=64,
    pooling="stride", spatial_mean=True, head_std=1.0,
)  # fmt: skip
_MINI = _REFERENCE.where(data="mini-imagenet", way=5, query=15, meta_batch=4, lr=0.05, test_steps=10, width=32)
# One inner step of 0.4, three at test, as MAML's own 5-way Omniglot; Adam at 3e-3 learns in a minute (5 steps or 1e-3
# took several times as long to the same validation accuracy).
_GLYPHS = Spec().where(
    data="glyphs", size=28, way=5, query=5, meta_batch=8, steps=1, lr=0.4, meta_lr=3e-3, width=32, pooling="stride",
    iterations=1_200, val_every=200, test_query=5, test_steps=3, algorithm="anil", **_NORM,
)  # fmt: skip

FOLDER = Spec().where(
    way=5, shot=5, query=5, meta_batch=4, lr=0.016, meta_lr=3e-3, iterations=200, val_every=50, test_query=5, **_NORM
)
"""What `innerloop train FOLDER` starts from: a first network within minutes; `lr` is `usual_lr` of these settings."""

_REACH = 12.8  # how far an inner step goes: results/folder-defaults.json


def usual_lr(spec: Spec) -> float:
    """The inner learning rate that a network on a user's images starts from.

    A head's output moves by the learning rate times the squared length of its inputs, so the rate goes down with their
    number: one that suits images of 28 pixels begins with losses far above chance on those of 128.
    """
    from torch import nn

    size = spec.problem.size
    head = spec.build((1, size, size)).get_submodule("head")
    assert isinstance(head, nn.Linear)
    return float(f"{_REACH / head.in_features:.2g}")


PRESETS: dict[str, Spec] = {
    "omniglot-20way-1shot": _OMNIGLOT.where(shot=1, query=1),
    "omniglot-20way-5shot": _OMNIGLOT.where(shot=5, query=5),
    "omniglot-5way-1shot": _OMNIGLOT.where(way=5, shot=1, query=1, meta_batch=32, steps=1, test_steps=3),
    "mini-imagenet-5way-1shot": _MINI.where(shot=1, clip=10 / 75),
    "mini-imagenet-5way-5shot": _MINI.where(shot=5, clip=10 / 15),
    "glyphs-5way-1shot": _GLYPHS.where(shot=1),
    "glyphs-5way-5shot": _GLYPHS.where(shot=5),
    "glyphs-20way-1shot": _GLYPHS.where(way=20, shot=1),
}
"""omniglot-5way-1shot is MAML's own setting (meta batches of 32, one step of 0.4 = 2.0 here, 3 steps at test)."""


def preset(name: str) -> Spec:
    """The settings called `name`.

    Raises:
        ValueError: there are none.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}. There are: {', '.join(PRESETS)}.{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
