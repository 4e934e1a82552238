"""What an import brings along. That imports go one way is checked by import-linter: see pyproject.toml."""

from __future__ import annotations

import subprocess
import sys

import pytest

import innerloop
import innerloop.rl
from innerloop.cli.main import COMMANDS

HEAVY = {"torch", "matplotlib", "transformers", "mujoco", "gymnasium", "tensorboard", "ray", "numpy"}

SHOWS = f"""
import sys
from innerloop.cli.main import main
try:
    main()
except SystemExit as left:
    print("LEFT", left.code, *({HEAVY} & set(sys.modules)))
"""


def loaded(code: str, *arguments: str) -> list[str]:
    """The last line that a fresh process prints."""
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()


def test_importing_innerloop_loads_no_heavy_library():
    code = f"import sys, innerloop; print('LOADED', *({HEAVY | {'tyro'}} & set(sys.modules)))"
    assert loaded(code) == ["LOADED"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["rl", "train"], ["rl", "paper"]])
def test_help_waits_for_no_heavy_library(command):
    assert loaded(SHOWS, *command, "--help") == ["LEFT", "0"]


@pytest.mark.parametrize("typo", [["trian"], ["train", "glyphs-5way-1shot", "--iteration", "3"], ["rl", "tran"]])
def test_a_typo_waits_for_no_heavy_library(typo):
    assert loaded(SHOWS, *typo) == ["LEFT", "2"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    assert COMMANDS[name].load().__doc__.splitlines()[0] == COMMANDS[name].about


@pytest.mark.parametrize("name", ["evaluate", "probe"])
def test_a_function_is_one_whatever_was_imported_before(name):
    """A module of the package that has a function's name must not stand in its place."""
    code = (
        f"import innerloop.cli.evaluate, innerloop.cli.probe, innerloop.reuse.probe, innerloop.evaluation\n"
        f"from innerloop import {name}; print({name} is innerloop.{name}, callable({name}))"
    )
    assert loaded(code) == ["True", "True"]


@pytest.mark.parametrize("package", [innerloop, innerloop.data, innerloop.rl])
def test_all_that_is_exported_is_there(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
