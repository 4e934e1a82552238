from __future__ import annotations

import io

import pytest
from rich.console import Console

from innerloop.runs.progress import Display


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_of_80_letters_shows_all_of_it(columns):
    """The largest that there usually is: count, time left, rate, loss and accuracies."""
    display = Display("mini-imagenet-5way-1shot-anil-seed0", 30_000, 0, None)
    display.validated(12_000, {"val_accuracy": 0.345, "val_interval": 0.01})
    display.trained(12_000, {"loss": 0.998, "accuracy": 0.515})
    display.bar.update(display.task, about="12.34 it/s  loss 0.998  train 51.5%  val 34.5%")
    shown = io.StringIO()
    Console(file=shown, width=columns).print(display.bar.get_renderable())
    assert "…" not in shown.getvalue()
    assert len(shown.getvalue().splitlines()) == 1
    assert "12000/30000" in shown.getvalue()
    assert shown.getvalue().rstrip().endswith("12.34 it/s  loss 0.998  train 51.5%  val 34.5%")
