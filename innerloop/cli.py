"""The command line: `innerloop.commands` has the subcommands, this runs the one that was asked for."""

from __future__ import annotations

import io
import os
import shlex
import sys
import warnings
from contextlib import redirect_stderr
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

from innerloop.commands.classify import Classify
from innerloop.commands.data import Data
from innerloop.commands.demo import Demo
from innerloop.commands.evaluate import Evaluate
from innerloop.commands.paper import Paper
from innerloop.commands.probe import ProbeCommand
from innerloop.commands.train import Train, start_of
from innerloop.console import again, explain, full_memory, say, unboxed
from innerloop.cpu import tune_cpu
from innerloop.runs.execute import Interrupted
from innerloop.runs.presets import PRESETS


def main() -> None:
    """Entry point: user mistakes end in one line and exit code 1."""
    Command = (  # noqa: N806  a type
        Annotated[Demo, subcommand("demo")]
        | Annotated[Train, subcommand("train", default=_train_defaults(sys.argv[1:]))]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Classify, subcommand("classify")]
        | Annotated[ProbeCommand, subcommand("probe")]
        | Annotated[Data, subcommand("data")]
        | Annotated[Paper, subcommand("paper")]
    )
    warnings.formatwarning = lambda message, *_, **__: f"innerloop: warning: {message}\n"
    try:
        command = _parsed(Command)
        tune_cpu()
        command.run()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        bug = isinstance(error, RuntimeError) and not full_memory(error)
        if bug or os.environ.get("INNERLOOP_TRACEBACK"):
            raise
        sys.exit(f"innerloop: {explain(error)}")
    except (KeyboardInterrupt, Interrupted) as stopped:
        say(f"innerloop: {str(stopped) or 'interrupted'}. To go on: {again()}")
        sys.exit(130)


_ABOUT = "Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between."


def _train_defaults(arguments: list[str]) -> Any:
    """The settings that `innerloop train WHAT` starts from, so that --help shows them."""
    what = arguments[1] if arguments[:1] == ["train"] and len(arguments) > 1 else "--help"
    if what in ("-h", "--help"):
        return Train(tyro.MISSING, PRESETS["glyphs-5way-1shot"])
    if what.startswith("-"):  # the preset's settings must be known before they are changed
        sys.exit(f"innerloop: what to train comes first: innerloop train WHAT {shlex.join(arguments[1:])}")
    try:
        return Train(what, start_of(what))
    except ValueError as error:
        sys.exit(f"innerloop: {error} Or give a folder with one sub-folder of images a class.")


def _parsed(kind: Any) -> Any:
    """The command as given, or exit code 2 and one line, where tyro draws a box with several parts."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, prog="innerloop", description=_ABOUT)
    except SystemExit as left:
        if left.code:
            say(f"innerloop: {unboxed(said.getvalue())}")
        raise


if __name__ == "__main__":
    main()
