"""innerloop demo"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from innerloop.runs.means import Compute


@dataclass(frozen=True)
class DemoCommand:
    """Meta-train MAML and ANIL on glyphs, test them on scripts never seen, freeze the body, draw the outcome."""

    out: Path = Path("demo")
    """where runs and the picture go"""
    compute: OmitArgPrefixes[Compute] = field(default_factory=Compute)

    def run(self) -> None:
        from innerloop.demo import demo
        from innerloop.report.demo_picture import demo_picture  # matplotlib is slow to load
        from innerloop.runs.checkpoint import write_whole

        found, picture = demo(self.out, self.compute), self.out / "demo.png"
        write_whole(picture, demo_picture(found))
        print(f"picture: {picture}\n{found.verdict}")
