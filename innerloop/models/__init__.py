"""Networks: named Sequentials whose last child is the head."""

from innerloop.models.few_shot import (
    ConvBlock,
    ResidualBlock,
    SpatialMean,
    conv4,
    mini_imagenet_net,
    mlp,
    omniglot_net,
    reference_norm,
    resnet12,
)

__all__ = [
    "ConvBlock",
    "ResidualBlock",
    "SpatialMean",
    "conv4",
    "mini_imagenet_net",
    "mlp",
    "omniglot_net",
    "reference_norm",
    "resnet12",
]
