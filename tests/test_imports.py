"""What an import brings along. That imports go one way is checked by import-linter: see pyproject.toml."""

from __future__ import annotations

import subprocess
import sys


def test_importing_innerloop_loads_no_heavy_library():
    code = "import sys, innerloop; print(*({'matplotlib', 'tyro', 'tensorboard'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
