"""innerloop paper"""

from __future__ import annotations

from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes, Positional

from innerloop.cli.study import Action, Options


@dataclass(frozen=True)
class Paper:
    """Reproduce tables and figures of the paper: list them, plan, run, and report.

    Scales: smoke (minutes, drawn glyphs, meaningless numbers), small (real data, an evening on two cores), paper (its
    full settings, a GPU).
    """

    action: Positional[Action]
    what: Positional[tuple[str, ...]] = ()
    """such as table1 figure2; all if not given"""
    options: OmitArgPrefixes[Options] = field(default_factory=Options)

    def run(self) -> None:
        from innerloop.cli.study_actions import act
        from innerloop.paper import STUDY

        act(STUDY, self.action, self.what, self.options)
