"""No module dies of the memory layout of a bank's images: PyTorch 2.13 ends the process on some of channels last."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from innerloop.kernels.channels import channels_last

SHORTCUT = """
import torch
from torch import nn
import innerloop
from innerloop.data.bank import Bank
from innerloop.models import ConvBlock
from innerloop.norm import TaskNorm

class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x):
        return torch.relu(self.conv(x) + self.shortcut(x))

torch.set_num_threads(1)
images = torch.randint(0, 255, (6, 84, 84, 3), dtype=torch.uint8)
bank = Bank.stack(images, [3, 3], ["a", "b"], white=255)
net = nn.Sequential({first}, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
episodes = bank.episodes(2, 1, 2, tasks=2, count=8)
adam = torch.optim.Adam(net.parameters())
for step in innerloop.meta_train(net, episodes, innerloop.maml(1, 0.1), adam):
    assert step.loss.isfinite()
print("alive")
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["Block(3, 4)", 'ConvBlock(3, 4, TaskNorm, "stride"), Block(4, 4)'])
def test_a_strided_shortcut(first):
    code = SHORTCUT.replace("{first}", first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\n"


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_that_gain_ask_for_channels_last(channels):
    x = torch.rand(2, channels, 4, 5)
    got = channels_last(x)
    assert torch.equal(got, x)
    assert got.stride()[1:] == (1, 5 * channels, channels)
    assert channels_last(got) is got
    assert torch.equal(torch.vmap(channels_last)(x.expand(3, *x.shape)), x.expand(3, *x.shape))
