"""The networks of few-shot papers: named Sequentials whose last child is the head.

Images are (n, c, h, w) float32 in [0, 1]. `generator` makes the initial weights reproducible.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from innerloop.kernels.channels import channels_first, channels_last
from innerloop.kernels.conv import convolve
from innerloop.norm import TaskNorm

Norms = Callable[[int], nn.Module]
Pooling = Literal["max", "stride"]

reference_norm = partial(TaskNorm, scale=False, eps=1e-3)
"""The norm of the reference code: a shift, no scale, eps 1e-3 (the defaults of TF 1's batch_norm)."""


class ConvBlock(nn.Module):
    """3x3 convolution, norm, ReLU, and 2x2 max pooling, a stride of 2 or neither; padding as TensorFlow's SAME.

    With a TaskNorm the convolution has no bias: the norm would subtract it again.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norms, pooling: Pooling | None) -> None:
        super().__init__()
        self.norm = norm(outputs)
        stride = 2 if pooling == "stride" else 1
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, bias=not isinstance(self.norm, TaskNorm))
        self.pooling = pooling
        self.channels_last = gains(self.norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, h, w) to (n, outputs, h / 2, w / 2), rounded up with a stride and down with pooling."""
        x = conv_same(channels_last(x), self.conv) if self.channels_last else channels_first(conv_same(x, self.conv))
        if self.pooling != "max":
            return self.norm.rectified(x) if isinstance(self.norm, TaskNorm) else F.relu(self.norm(x))
        if isinstance(self.norm, TaskNorm) and self.norm.weight is None:
            # Shift and ReLU never change which pixel is the largest, so they run on the quarter that is left.
            return F.relu(self.norm.affine(self.norm.halved(x)), inplace=True)
        return F.max_pool2d(F.relu(self.norm(x)), 2)


def gains(norm: nn.Module, outputs: int) -> bool:
    """Whether a block of convolutions with so many outputs works with its channels last in memory.

    Not before a norm of others: some cannot read it under vmap. Nor with few channels, which gain nothing: layers of
    PyTorch 2.13 that may come after the block crash on 2 to 7 channels that lie last.
    """
    return isinstance(norm, TaskNorm) and outputs >= 8


def conv_same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The 3x3 convolution with TensorFlow's SAME padding: where it is odd, the right and the bottom get more."""
    stride = conv.stride[0]
    pads = [max((-(-size // stride) - 1) * stride + 3 - size, 0) for size in x.shape[-2:]]
    (top, bottom), (left, right) = ((pad // 2, pad - pad // 2) for pad in pads)
    y = convolve(x, conv.weight, stride, (left, right, top, bottom))
    return y if conv.bias is None else y + conv.bias.to(y.dtype).view(-1, 1, 1)


class SpatialMean(nn.Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """From (n, c, h, w) to (n, c)."""
        return x.mean((2, 3))


def conv4(
    way: int = 5,
    *,
    channels: int = 3,
    size: int = 84,
    width: int = 32,
    pooling: Pooling = "max",
    halvings: int = 4,
    norm: Norms = TaskNorm,
    spatial_mean: bool = False,
    head_std: float | None = None,
    generator: Generator | None = None,
) -> nn.Sequential:
    """Four `ConvBlock`s and a linear head, for square images of `size` pixels.

    The first `halvings` blocks halve their image. Weights are Xavier uniform, biases 0; `head_std` draws the head from
    a normal distribution instead.

    Raises:
        ValueError: the images are too small for the poolings, or there is no such pooling or number of halvings.
    """
    if pooling not in ("max", "stride"):
        raise ValueError(f"pooling must be 'max' or 'stride', got {pooling!r}")
    if not 0 <= halvings <= 4:
        raise ValueError(f"halvings must be 0 to 4, since conv4 has four blocks, got {halvings}")
    left = size
    for _ in range(halvings):
        left = left // 2 if pooling == "max" else -(-left // 2)
    if left < 1:
        raise ValueError(
            f"images of {size} pixels are too small for {halvings} poolings by 2: use {2**halvings} or more, or strides"
        )
    blocks = [
        ConvBlock(channels if i == 0 else width, width, norm, pooling if i < halvings else None) for i in range(4)
    ]
    head = nn.Linear(width if spatial_mean else width * left * left, way)
    model = nn.Sequential(
        OrderedDict(
            block1=blocks[0],
            block2=blocks[1],
            block3=blocks[2],
            block4=blocks[3],
            features=SpatialMean() if spatial_mean else nn.Flatten(),
            head=head,
        )
    )
    for module in [*(block.conv for block in blocks), head]:
        nn.init.xavier_uniform_(module.weight, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if head_std is not None:
        nn.init.normal_(head.weight, std=head_std, generator=generator)
    return model


def omniglot_net(way: int = 20, *, width: int = 64, norm: Norms = reference_norm, **more: Any) -> nn.Sequential:
    """The paper's Omniglot network: strides of 2, the mean over space, a head drawn from N(0, 1); for 28x28 grey."""
    settings = {"channels": 1, "size": 28, "pooling": "stride", "spatial_mean": True, "head_std": 1.0}
    return conv4(way, width=width, norm=norm, **(settings | more))


def mini_imagenet_net(way: int = 5, *, width: int = 32, norm: Norms = reference_norm, **more: Any) -> nn.Sequential:
    """The paper's mini-ImageNet network: 2x2 max pooling, 84x84 colour images to 800 features."""
    return conv4(way, width=width, norm=norm, **more)


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (40, 40), *, generator: Generator | None = None
) -> nn.Sequential:
    """Linear layers with ReLU between them, as MAML's sinusoid net; weights from a truncated normal of std 0.01."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, width in enumerate(hidden, start=1):
        layers[f"layer{i}"] = nn.Linear(inputs, width)
        layers[f"relu{i}"] = nn.ReLU()
        inputs = width
    layers["head"] = nn.Linear(inputs, outputs)
    for layer in layers.values():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02, generator=generator)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with norms, a 1x1 shortcut, leaky ReLU and 2x2 max pooling."""

    def __init__(self, inputs: int, outputs: int, norm: Norms) -> None:
        super().__init__()
        widths = [inputs, outputs, outputs]
        self.convs = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1, bias=False) for width in widths)
        self.norms = nn.ModuleList(norm(outputs) for _ in widths)
        conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm(outputs)))
        self.channels_last = gains(self.norms[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, h, w) to (n, outputs, h // 2, w // 2)."""
        y = x = channels_last(x) if self.channels_last else x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = F.leaky_relu(y if i < 2 else y + self.shortcut(x), 0.1)
        return F.max_pool2d(y, 2)


def resnet12(
    way: int = 5,
    *,
    channels: int = 3,
    size: int = 84,
    widths: Sequence[int] = (64, 160, 320, 640),
    norm: Norms = TaskNorm,
    generator: Generator | None = None,
) -> nn.Sequential:
    """ResNet-12 as few-shot papers use it (Lee et al. 2019, without DropBlock): 640 features, mean over space.

    Raises:
        ValueError: images of `size` pixels are too small for a pooling a block.
    """
    if size < 2 ** len(widths):
        raise ValueError(
            f"images of {size} pixels are too small for {len(widths)} poolings by 2: use {2 ** len(widths)} or more"
        )
    steps = zip([channels, *widths], widths, strict=False)
    blocks = {f"block{i}": ResidualBlock(a, b, norm) for i, (a, b) in enumerate(steps, start=1)}
    model = nn.Sequential(OrderedDict(**blocks, features=SpatialMean(), head=nn.Linear(widths[-1], way)))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_out", generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return model
