"""Bars: on a terminal that asked for one, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest
import torch
from torch import nn

import innerloop
from innerloop.progress import watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stderr, from here on a terminal: a fixture's would be put back by pytest before the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_items_are_the_same_with_a_bar(monkeypatch):
    shown = terminal(monkeypatch)
    assert list(watched(range(5), "counting")) == list(range(5))
    assert "counting" in shown.getvalue()


def test_nothing_where_there_is_no_terminal(capsys):
    assert list(watched(range(5), "counting")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_quiet(monkeypatch):
    shown = terminal(monkeypatch)
    monkeypatch.setenv("INNERLOOP_QUIET", "1")
    assert list(watched(range(5), "counting")) == list(range(5))
    assert shown.getvalue() == ""


def test_python_is_silent_unless_asked(monkeypatch):
    stderr = terminal(monkeypatch)
    x, y = torch.randn(2, 4, 3), torch.tensor([[0, 1, 0, 1]] * 2)
    episodes = [innerloop.Episodes(x, y, x, y)] * 3
    model = nn.Sequential()
    model.add_module("head", nn.Linear(3, 2))
    silent = innerloop.evaluate(model, episodes, innerloop.maml(1, 0.1))
    assert stderr.getvalue() == ""
    shown = innerloop.evaluate(model, episodes, innerloop.maml(1, 0.1), progress=True)
    assert "episodes" in stderr.getvalue()
    assert torch.equal(silent.loss, shown.loss)
