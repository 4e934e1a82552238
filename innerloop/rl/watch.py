"""What a policy does before and after adaptation, as pictures, drawn without any graphics driver."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from innerloop.inner import InnerLoop
from innerloop.rl.environment import Environment, Tasks
from innerloop.rl.half_cheetah import HalfCheetah
from innerloop.rl.meta import Collected, collect
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import Policy

Array = np.ndarray[Any, Any]
FINE = 2  # pixels drawn for one that is kept, along each side
METRE = 90  # pixels
PANEL = (360, 150)  # pixels, (width, height)
INK, GROUND, MARK = (30, 30, 30), (225, 222, 214), (150, 146, 136)
BEFORE, AFTER = (96, 125, 170), (201, 106, 52)


def picture(
    policy: Policy, environment: Environment, inner: InnerLoop, generator: torch.Generator
) -> tuple[bytes, str]:
    """What suits the environment, and how a file of it ends: a GIF of the cheetah, or a PNG of paths.

    Raises:
        ValueError: it is neither the cheetah nor 2D-Navigation.
    """
    if isinstance(environment, Navigation):
        return navigation_picture(policy, environment, inner, generator), ".png"
    if not isinstance(environment, HalfCheetah):
        raise ValueError(f"{environment.title} cannot be drawn here: only 2D-Navigation and HalfCheetah can")
    tasks = [1.0, -1.0] if environment.goal == "direction" else [0.5, 1.5]
    return cheetah_gif(policy, environment, inner, generator, tasks=tasks), ".gif"


def navigation_picture(
    policy: Policy, environment: Navigation, inner: InnerLoop, generator: torch.Generator, *, tasks: int = 6
) -> bytes:
    """Paths to some goals before and after adaptation, three trajectories of each; a PNG."""
    from matplotlib.figure import Figure

    seen = collect(policy, environment, environment.sample(tasks, generator), inner, generator)
    columns = min(tasks, 3)
    rows = -(-tasks // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows), layout="constrained")
    for task, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if task >= tasks:
            axes.axis("off")
            continue
        before, after = (float(tried.returns()[task]) for tried in (seen.tried[0], seen.tried[-1]))
        for tried, colour, label in ((seen.tried[0], BEFORE, "before"), (seen.tried[-1], AFTER, "after")):
            for n in range(min(3, tried.taken.shape[1])):
                path = tried.observations[task, n][tried.taken[task, n] > 0]
                name = f"{label} adaptation" if n == 0 else None
                axes.plot(*path.T.numpy(), color=np.divide(colour, 255), linewidth=0.9, alpha=0.8, label=name)
        axes.plot(*np.asarray(seen.tasks[task]), "*", color="black", markersize=9, label="goal")
        axes.set(xlim=(-0.9, 0.9), ylim=(-0.9, 0.9), aspect="equal", title=f"return {before:.0f} → {after:.0f}")
        axes.tick_params(labelsize=7)
        axes.title.set_fontsize(9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def cheetah_gif(
    policy: Policy,
    environment: HalfCheetah,
    inner: InnerLoop,
    generator: torch.Generator,
    *,
    tasks: Sequence[float],
    every: int = 3,
) -> bytes:
    """One trajectory of each task before (left) and after adaptation (right), every `every`-th step; a GIF."""
    film = _Film(environment)
    seen = collect(policy, film, torch.tensor(tasks), inner, generator)
    takes = [film.takes[0], film.takes[-1]]
    frames = [
        _frame(environment, [[take[step][task] for take in takes] for task in range(len(tasks))], step, seen)
        for step in range(0, environment.horizon, every)
    ]
    palette = frames[len(frames) // 2].quantize(32)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    wait = int(1000 * environment.seconds * every)
    small[0].save(buffer, "GIF", save_all=True, append_images=small[1:], duration=wait, loop=0, optimize=True)
    return buffer.getvalue()


class _Film:
    """An environment that notes where the first cheetah of each task is at every step of each rollout."""

    def __init__(self, environment: HalfCheetah) -> None:
        self.environment = environment
        self.title, self.observations = environment.title, environment.observations
        self.actions, self.horizon = environment.actions, environment.horizon
        self.takes: list[list[Array]] = []  # (t, nq) of each step of each rollout

    def sample(self, count: int, generator: torch.Generator) -> Tasks:
        return self.environment.sample(count, generator)

    def reset(self, tasks: Tasks, copies: int, generator: torch.Generator) -> Tensor:
        self._copies = copies
        self.takes.append([])
        return self.environment.reset(tasks, copies, generator)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.takes[-1].append(self.environment.places()[:: self._copies])
        return self.environment.step(actions)


def _frame(environment: HalfCheetah, places: list[list[Array]], step: int, seen: Collected) -> Image.Image:
    """Rows of tasks, before and after side by side."""
    width, height = PANEL[0] * FINE, PANEL[1] * FINE
    whole = Image.new("RGB", (2 * width, len(places) * height), "white")
    for row, pair in enumerate(places):
        for column, (place, said, tried) in enumerate(
            zip(pair, ("before", "after"), (seen.tried[0], seen.tried[-1]), strict=True)
        ):
            total = float(tried.rewards[row, 0, : step + 1].sum())
            text = (_wanted(environment, seen.tasks[row]), f"{said} adaptation", f"return {total:.0f}")
            panel = _panel(environment, place, "   ".join(text), BEFORE if column == 0 else AFTER)
            whole.paste(panel, (column * width, row * height))
    return whole.resize((whole.width // FINE, whole.height // FINE), Image.Resampling.LANCZOS)


def _wanted(environment: HalfCheetah, task: Any) -> str:
    if environment.goal == "velocity":
        return f"wanted {float(task):.1f} m/s"
    return "wanted: forwards" if float(task) > 0 else "wanted: backwards"


def _panel(environment: HalfCheetah, place: Array, text: str, colour: tuple[int, int, int]) -> Image.Image:
    """The cheetah from the side, in the middle, on a ground with a mark each metre."""
    width, height = PANEL[0] * FINE, PANEL[1] * FINE
    scale, floor = METRE * FINE, int(0.86 * height)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)

    def at(x: float, z: float) -> tuple[float, float]:
        return width / 2 + (x - place[0]) * scale, floor - z * scale

    draw.rectangle((0, floor, width, height), fill=GROUND)
    half = width / 2 / scale
    for metre in range(int(np.floor(place[0] - half)), int(np.ceil(place[0] + half)) + 1):
        x, z = at(metre, 0)
        draw.line((x, z, x, z + 8 * FINE), fill=MARK, width=2 * FINE)
        draw.text((x + 3 * FINE, z + 3 * FINE), str(metre), fill=MARK, font_size=10 * FINE)
    for (x0, z0), (x1, z1), radius in environment.capsules(place):
        ends, thick = (at(x0, z0), at(x1, z1)), radius * scale
        draw.line((*ends[0], *ends[1]), fill=colour, width=round(2 * thick))
        for x, z in ends:
            draw.ellipse((x - thick, z - thick, x + thick, z + thick), fill=colour)
    draw.text((6 * FINE, 4 * FINE), text, fill=INK, font_size=11 * FINE)
    return image
