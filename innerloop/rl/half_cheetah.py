"""HalfCheetah-Direction and HalfCheetah-Velocity: run one way or the other, or at a wanted speed (Finn et al. 2017).

Needs `mujoco` with its batched stepping, the extra `rl`. For the same actions the states are those of gymnasium's
HalfCheetah-v5, bit for bit.
"""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innerloop.rl.environment import Actions, Tasks

FRAME_SKIP = 5  # simulated steps of 0.01 s in one step
UNSUPPORTED = ("4.0.0",)  # its Newton solver has a wrong factor for sparse Jacobians, which 4.0.1 mends (#3767)


def simulator() -> Any:
    """The module `mujoco`, with `mujoco.batch`.

    Raises:
        ValueError: it is not there, too old, or known to be wrong.
    """
    install = "pip install 'mujoco>=3.17,!=4.0.0', the extra `rl` of innerloop"
    try:
        import mujoco
    except ImportError as error:
        raise ValueError(f"HalfCheetah needs the simulator mujoco, which is not installed: {install}") from error
    if mujoco.__version__ in UNSUPPORTED:
        raise ValueError(f"mujoco {mujoco.__version__} has a wrong solver: {install}")
    try:
        import_module("mujoco.batch")
    except ImportError as error:
        raise ValueError(f"mujoco {mujoco.__version__} has no batched stepping: {install}") from error
    return mujoco


def model(mujoco: Any) -> Any:
    """The cheetah, 14 kg."""
    return mujoco.MjModel.from_xml_string((files("innerloop.rl") / "half_cheetah.xml").read_text())


class HalfCheetah:
    """A planar cheetah of six joints. It never falls for good: a trajectory ends with its time.

    The defaults are those of tristandeleu/pytorch-maml-rl at 493e677. An observation has 20 numbers: the place without
    x (8), the velocities (9), and where the torso is in the world (3), which does have x and is one simulated step of
    0.01 s old. The reward is the speed in the wanted direction, or minus its distance from the wanted speed, less
    `control_cost` times the sum of the squared actions.

    Args:
        goal: "direction", tasks are -1 and 1; or "velocity", tasks are speeds in [0, 2] m/s.
        horizon: steps of a trajectory, of 0.05 s each.
        control_cost: 0.05; gymnasium's HalfCheetah has 0.1.
        scale: what an action is multiplied by before it is clipped to [-1, 1].
        noise: of the first state: uniform in [-noise, noise] in the place, normal in the velocities.
        threads: of the simulator.
    """

    observations = 20
    actions = Actions(6)

    def __init__(
        self,
        goal: Literal["direction", "velocity"],
        horizon: int = 200,
        *,
        control_cost: float = 0.05,
        scale: float = 1.0,
        noise: float = 0.1,
        threads: int = 1,
    ) -> None:
        self.title = f"HalfCheetah-{goal.capitalize()}"
        self.goal, self.horizon, self.control_cost, self.scale = goal, horizon, control_cost, scale
        self.noise, self.threads = noise, threads
        self._mujoco = simulator()
        self.simulator = f"mujoco {self._mujoco.__version__}"  # other versions differ in the last bits
        self.model = model(self._mujoco)
        self.seconds = FRAME_SKIP * self.model.opt.timestep  # of a step
        self._batches: dict[int, Any] = {}  # by the number of simulations

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Wanted directions or speeds, (t,)."""
        uniform = torch.rand(count, generator=generator)
        return 2 * uniform if self.goal == "velocity" else 1 - 2 * (uniform < 0.5).float()

    def reset(self, tasks: Tasks, copies: int, generator: torch.Generator) -> Tensor:
        self._goals = np.repeat(np.asarray(tasks, dtype=np.float64), copies)
        count = len(self._goals)
        if count not in self._batches:
            self._batches = {count: self._mujoco.batch.Batch(self.model, count, nthread=self.threads)}
        self._batch, self._shape = self._batches[count], (len(tasks), copies)
        place = 2 * torch.rand(count, self.model.nq, generator=generator, dtype=torch.float64) - 1
        speed = torch.randn(count, self.model.nv, generator=generator, dtype=torch.float64)
        self.begin(self.model.qpos0 + self.noise * place.numpy(), self.noise * speed.numpy())
        return self._observations()

    def begin(self, qpos: np.ndarray[Any, Any], qvel: np.ndarray[Any, Any]) -> None:
        """Put the simulations, one a row, into a state."""
        batch = self._batch
        batch.reset(stage=self._mujoco.mjtStage.mjSTAGE_NONE)
        batch.bind("qpos")[:], batch.bind("qvel")[:] = qpos, qvel
        self._torso = batch.bind("xpos")
        batch.forward()

    def _observations(self) -> Tensor:
        batch = self._batch
        parts = (batch.bind("qpos")[:, 1:], batch.bind("qvel"), self._torso[:, 1])  # body 0 is the world
        return torch.from_numpy(np.concatenate(parts, 1, dtype=np.float32)).view(*self._shape, -1)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch = self._batch
        control = np.clip(self.scale * actions.flatten(0, 1).double().numpy(), -1.0, 1.0)
        before = batch.bind("qpos")[:, 0].copy()
        batch.bind("ctrl")[:] = control
        batch.step(nstep=FRAME_SKIP)
        speed = (batch.bind("qpos")[:, 0] - before) / self.seconds
        wanted = self._goals * speed if self.goal == "direction" else -np.abs(speed - self._goals)
        reward = torch.from_numpy(wanted - self.control_cost * np.square(control).sum(1))
        never = torch.zeros(self._shape, dtype=torch.bool)
        return self._observations(), reward.float().view(self._shape), never

    def places(self) -> np.ndarray[Any, Any]:
        """Where each simulation's joints are, (t n, 9); the first number is the torso's x."""
        return self._batch.bind("qpos").copy()

    def capsules(self, place: np.ndarray[Any, Any]) -> list[tuple[tuple[float, float], tuple[float, float], float]]:
        """What the cheetah is made of where its joints are at `place`, (9,): two ends (x, z) and a radius each."""
        data = self._mujoco.MjData(self.model)
        data.qpos[:] = place
        self._mujoco.mj_kinematics(self.model, data)
        parts: list[tuple[tuple[float, float], tuple[float, float], float]] = []
        for geom in range(1, self.model.ngeom):  # 0 is the floor
            radius, half = self.model.geom_size[geom, :2]
            middle, axis = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)[:, 2]
            (x0, _, z0), (x1, _, z1) = middle - half * axis, middle + half * axis
            parts.append(((float(x0), float(z0)), (float(x1), float(z1)), float(radius)))
        return parts
