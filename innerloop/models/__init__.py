"""Networks: named Sequentials whose last child is the head."""

from innerloop.models.backbones import Input, UnitSphere, backbone, input_of
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
    "Input",
    "ResidualBlock",
    "SpatialMean",
    "UnitSphere",
    "backbone",
    "conv4",
    "input_of",
    "mini_imagenet_net",
    "mlp",
    "omniglot_net",
    "reference_norm",
    "resnet12",
]
