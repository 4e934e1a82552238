"""Ctrl-C while the command line starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("imported", "command"),
    [("tyro", ["data", "list"]), ("torch", ["data", "list"]), ("innerloop.data.bank", ["data", "list"])],
)
def test_ctrl_c_at_start_is_one_line(imported, command, tmp_path):
    """At whatever is being imported."""
    first = tmp_path / "sitecustomize.py"  # Python runs it before anything else
    first.write_text(
        "import importlib.abc, sys\n"
        "class Slow(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {imported!r}:\n"
        "            import time\n"
        "            print('here', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-m", "innerloop", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said == "innerloop: interrupted. To go on: innerloop data list\n"
    assert process.returncode == 130
