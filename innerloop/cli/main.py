"""The command line: `innerloop.cli` has the subcommands, this runs the one that was asked for."""

from __future__ import annotations

import io
import os
import shlex
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import tyro
from tyro.extras import subcommand_cli_from_dict

from innerloop import __version__
from innerloop.cli.cache import Cache
from innerloop.cli.classify import Classify
from innerloop.cli.data import Data
from innerloop.cli.demo import DemoCommand
from innerloop.cli.errors import again, explain, full_memory, say, unboxed
from innerloop.cli.evaluate import Evaluate
from innerloop.cli.paper import Paper
from innerloop.cli.probe import ProbeCommand
from innerloop.cli.rl import Rl
from innerloop.cli.study import StudyCommand
from innerloop.cli.train import Train, start_of
from innerloop.device import tune_cpu
from innerloop.runs.presets import PRESETS, usual_lr
from innerloop.runs.trainer import Interrupted

COMMANDS: dict[str, Any] = {
    "demo": DemoCommand,
    "train": Train,
    "evaluate": Evaluate,
    "classify": Classify,
    "probe": ProbeCommand,
    "data": Data,
    "cache": Cache,
    "paper": Paper,
    "study": StudyCommand,
    "rl": Rl,
}


def main() -> None:
    """Entry point: user mistakes end in one line and exit code 1."""
    if sys.argv[1:2] == ["--version"]:
        print(f"innerloop {__version__}")
        return
    warnings.formatwarning = lambda message, *_, **__: f"innerloop: warning: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need be no text
    if "--quiet" in sys.argv[1:]:
        sys.argv.remove("--quiet")
        os.environ["INNERLOOP_QUIET"] = "1"  # for processes that are started from here, too
    try:
        command = at_home(_parsed(sys.argv[1:]))
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


def at_home(command: Any) -> Any:
    """The command with `~` in its paths as the user's folder, whatever the shell made of it."""
    paths = {field.name: getattr(command, field.name) for field in fields(command)}
    return replace(
        command,
        **{
            name: value.expanduser() if isinstance(value, Path) else tuple(map(_home, value))
            for name, value in paths.items()
            if isinstance(value, Path | tuple)
        },
    )


def _home(value: Any) -> Any:
    return value.expanduser() if isinstance(value, Path) else value


_ABOUT = (
    "Few-shot learning by gradient descent: MAML, ANIL, NIL and everything between. "
    "--version says which this is; --quiet, anywhere, leaves out progress and remarks."
)


def _parsed(arguments: list[str]) -> Any:
    """The command as given; what tyro says in a box with several parts becomes one line, with exit code 2.

    Once it is known which command it is, the others are left out, lest a message speaks of their options.
    """
    name = arguments[0] if arguments else ""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            if name == "train":
                return _train(arguments[1:])
            if name in COMMANDS:
                return tyro.cli(COMMANDS[name], prog=f"innerloop {name}", args=arguments[1:])
            return subcommand_cli_from_dict(COMMANDS, prog="innerloop", description=_ABOUT, args=arguments)
    except SystemExit as left:
        if left.code:
            say(f"innerloop: {unboxed(said.getvalue())}")
        raise


def _train(arguments: list[str]) -> Train:
    """`innerloop train` as given; for a folder the usual inner learning rate follows from the network asked for."""
    default = _train_defaults(arguments)
    command = tyro.cli(Train, prog="innerloop train", args=arguments, default=default)
    if command.what in PRESETS:
        return command
    default = replace(default, spec=default.spec.where(lr=usual_lr(command.spec)))
    return tyro.cli(Train, prog="innerloop train", args=arguments, default=default)


def _train_defaults(arguments: list[str]) -> Any:
    """The settings that `innerloop train WHAT` starts from, so that --help shows them."""
    what = arguments[0] if arguments else "--help"
    if what in ("-h", "--help"):
        return Train(tyro.MISSING, PRESETS["glyphs-5way-1shot"])
    if what.startswith("-"):  # the preset's settings must be known before they are changed
        raise ValueError(f"what to train comes first: innerloop train WHAT {shlex.join(arguments)}")
    try:
        return Train(what, start_of(what))
    except ValueError as error:
        raise ValueError(f"{error} Or give a folder with one sub-folder of images a class.") from None


if __name__ == "__main__":
    main()
