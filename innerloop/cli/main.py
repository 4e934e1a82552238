"""The command line: a file of `innerloop.cli` has each subcommand, this runs the one that was asked for."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields, make_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from innerloop.choices import did_you_mean
from innerloop.cli.errors import again, explain, full_memory, say, unboxed
from innerloop.runs.schedule import Interrupted

if TYPE_CHECKING:
    from innerloop.cli.train import Train


class Command(NamedTuple):
    """Where a subcommand lies: nothing is imported for those that were not asked for."""

    module: str  # in innerloop.cli
    name: str  # of its dataclass
    about: str  # the first line of the dataclass' docstring

    def load(self) -> Any:
        """The dataclass, whose fields are the options."""
        return getattr(import_module(f"innerloop.cli.{self.module}"), self.name)


COMMANDS = {
    command.module: command
    for command in (
        Command(
            "demo",
            "DemoCommand",
            "Meta-train MAML and ANIL on glyphs, test them on scripts never seen, freeze the body, draw the outcome.",
        ),
        Command(
            "train",
            "Train",
            "Meta-train on a preset or on your own folder, then test. Started again, it goes on where it stopped.",
        ),
        Command(
            "evaluate",
            "Evaluate",
            "Test a trained network on fresh episodes: accuracy after every inner step, with 95 % intervals.",
        ),
        Command("classify", "Classify", "Learn your classes from a few images each, and name other images."),
        Command(
            "probe",
            "ProbeCommand",
            "Rapid learning or feature reuse? Freeze layer after layer, and compare them before and after adaptation.",
        ),
        Command(
            "data",
            "Data",
            "Look at data sets: list them, prepare (download, decode, cache), check, or draw a contact sheet.",
        ),
        Command(
            "cache",
            "Cache",
            "Decoded images and downloads that are kept: list them, or clear them; what is needed again is made again.",
        ),
        Command("paper", "Paper", "Reproduce tables and figures of the paper: list them, plan, run, and report."),
        Command(
            "study",
            "StudyCommand",
            "A study of your own, declared in a Python file: list what it shows, plan, run, and report.",
        ),
        Command("rl", "Rl", "Meta-reinforcement learning: policies that adapt to a task from a few trajectories."),
    )
}


def main() -> None:
    """Entry point: user mistakes end in one line and exit code 1."""
    try:
        with ended_by_interrupt():
            command = _started()
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
        say(_stopped(str(stopped)))
        sys.exit(130)


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C ends the process with one line: nothing was begun that could be lost.

    Inside of an import a KeyboardInterrupt may come out as another error, or not at all.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # as under nohup
        yield
        return

    def end(*_: object) -> None:
        os.write(2, f"{_stopped('')}\n".encode())
        os._exit(130)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stopped(why: str) -> str:
    return f"innerloop: {why or 'interrupted'}. To go on: {again()}"


def _started() -> Any:
    """The command as given, with all that it needs before it runs."""
    if sys.argv[1:2] == ["--version"]:
        from innerloop import __version__

        print(f"innerloop {__version__}")
        sys.exit()
    warnings.formatwarning = lambda message, *_, **__: f"innerloop: warning: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need be no text
    if "--quiet" in sys.argv[1:]:
        sys.argv.remove("--quiet")
        os.environ["INNERLOOP_QUIET"] = "1"  # for processes that are started from here, too
    command = at_home(_parsed(sys.argv[1:]))
    from innerloop.device import tune_cpu  # with torch, which takes a second to load

    tune_cpu()
    return command


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
    """The command as given; what tyro says in a box with several parts becomes one line, with exit code 2."""
    name = arguments[0] if arguments else ""
    if name and not name.startswith("-") and name not in COMMANDS:
        say(f"innerloop: there is no command {name!r}. There are: {', '.join(COMMANDS)}.{did_you_mean(name, COMMANDS)}")
        sys.exit(2)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return _read(name, arguments)
    except SystemExit as left:
        if left.code:
            line = unboxed(said.getvalue())
            say(f"innerloop: {line}{_nearest_subcommand(line)}")
        raise


def _read(name: str, arguments: list[str]) -> Any:
    import tyro
    from tyro.extras import subcommand_cli_from_dict

    if name == "train":
        return _train(arguments[1:])
    if name in COMMANDS:
        return tyro.cli(COMMANDS[name].load(), prog=f"innerloop {name}", args=arguments[1:])
    shown = {name: make_dataclass(c.name, [], namespace={"__doc__": c.about}) for name, c in COMMANDS.items()}
    return subcommand_cli_from_dict(shown, prog="innerloop", description=_ABOUT, args=arguments)


def _nearest_subcommand(line: str) -> str:
    """Of a command's own subcommands; for its options tyro says it."""
    found = re.match(r"Unrecognized options: (\w+)\b.*\. Available subcommands: ([\w, ]+)\.", line)
    return did_you_mean(found[1], found[2].split(", ")) if found else ""


def _train(arguments: list[str]) -> Train:
    """`innerloop train` as given; for a folder the usual inner learning rate follows from the network asked for."""
    import tyro

    from innerloop.cli.train import Train
    from innerloop.runs.presets import PRESETS, usual_lr

    default = _train_defaults(arguments)
    command = tyro.cli(Train, prog="innerloop train", args=arguments, default=default)
    if command.what in PRESETS:
        return command
    default = replace(default, spec=default.spec.where(lr=usual_lr(command.spec)))
    return tyro.cli(Train, prog="innerloop train", args=arguments, default=default)


def _train_defaults(arguments: list[str]) -> Any:
    """The settings that `innerloop train WHAT` starts from, so that --help shows them."""
    from tyro import MISSING

    from innerloop.cli.train import Train, start_of
    from innerloop.runs.presets import PRESETS

    what = arguments[0] if arguments else "--help"
    if what in ("-h", "--help"):
        return Train(MISSING, PRESETS["glyphs-5way-1shot"])
    if what.startswith("-"):  # the preset's settings must be known before they are changed
        raise ValueError(f"what to train comes first: innerloop train WHAT {shlex.join(arguments)}")
    try:
        return Train(what, start_of(what))
    except ValueError as error:
        raise ValueError(f"{error} Or give a folder with one sub-folder of images a class.") from None


if __name__ == "__main__":
    main()
