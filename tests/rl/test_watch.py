"""Pictures of what a policy does."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from innerloop.inner import InnerLoop
from innerloop.rl.half_cheetah import HalfCheetah
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import Policy
from innerloop.rl.watch import cheetah_gif, picture


def test_paths_are_drawn():
    environment = Navigation(horizon=10)
    policy, generator = Policy(2, environment.actions, (4,)), torch.Generator().manual_seed(0)
    content, suffix = picture(policy, environment, InnerLoop(steps=1), generator)
    image = Image.open(io.BytesIO(content))
    assert suffix == ".png"
    assert image.format == "PNG"
    assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 20


def test_the_cheetah_moves():
    pytest.importorskip("mujoco.batch", reason="needs mujoco 3.17 or later")
    environment = HalfCheetah("direction", horizon=7)
    policy, generator = Policy(20, environment.actions, (4,)), torch.Generator().manual_seed(0)
    content = cheetah_gif(policy, environment, InnerLoop(steps=1), generator, tasks=[1.0], every=3)
    film = Image.open(io.BytesIO(content))
    assert film.format == "GIF"
    assert film.n_frames == 3
    assert film.info["duration"] == 150
    frames = []
    for number in range(3):
        film.seek(number)
        frames.append(film.convert("RGB").tobytes())
    assert len(set(frames)) == 3


def test_its_capsules_are_joined():
    pytest.importorskip("mujoco.batch", reason="needs mujoco 3.17 or later")
    environment = HalfCheetah("direction")
    parts = environment.capsules(environment.model.qpos0)
    assert len(parts) == 8
    (x0, z0), (x1, z1), radius = parts[0]  # the torso
    assert (abs(x1 - x0), z1 - z0) == pytest.approx((1, 0), abs=1e-6)
    assert z0 == pytest.approx(0.7)
    assert radius == 0.046


def test_what_cannot_be_drawn_is_told():
    class Other:
        title = "Chess"

    with pytest.raises(ValueError, match="Chess cannot be drawn"):
        picture(Policy(2, Navigation.actions, (4,)), Other(), InnerLoop(), torch.Generator())
