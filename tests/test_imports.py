"""The architecture: imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop

ROOT = Path(innerloop.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LIGHT = {"torch", *sys.stdlib_module_names}

# The lower parts, and what of innerloop each may import. One that is not named here may import any but the upper ones.
LOWER = {
    "norm": {"standardise"},
    "by_task": set(),
    "standardise": {"by_task"},
    "convolve": {"by_task"},
    "modules": set(),
    "cpu": set(),
    "batching": set(),
    "inner": {"batching", "norm", "modules"},
    "rules": {"batching", "inner", "modules", "norm"},
    "outer": {"batching", "inner", "modules", "norm", "rules"},
    "rl": {"inner", "norm", "rules", "models"},
    "models": {"convolve", "inner", "norm", "standardise"},
    "random_keys": set(),
    "episodes": {"inner", "norm", "random_keys"},
    "analysis": {"inner", "modules", "norm", "outer", "rules", "similarity"},
    "probing": {"analysis", "inner", "modules", "norm", "outer", "rules"},
    "similarity": {"inner", "norm", "modules"},
    "data": {"episodes", "inner", "norm"},
}
# The upper parts may import all lower ones, and of the upper ones these.
UPPER = {
    "runs": set(),
    "classifier": {"runs"},
    "paper": {"runs"},
    "report": {"runs", "paper"},
    "demo": {"runs", "classifier"},
    "console": set(),
}
DOORS = {"cli", "commands", "__init__", "__main__"}  # may import all; nothing imports them
ONLY_TORCH = (
    "inner",
    "batching",
    "by_task",
    "standardise",
    "convolve",
    "modules",
    "norm",
    "rules",
    "outer",
    "models",
    "episodes",
    "cpu",
)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it: `from a import b` counts as a.b."""
    names = set()
    package = ("innerloop", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


PARTS = {part_of(path) for path in FILES}


def of_innerloop(path: Path) -> set[str]:
    """The parts of innerloop that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("innerloop.")}


def test_the_parts_are_there():
    assert {"inner", "norm", "rules", "outer", "models", "episodes", "data"} <= PARTS
    assert of_innerloop(ROOT / "outer.py") == {"batching", "inner", "modules", "norm", "rules"}, (
        "the search for imports works"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = part_of(path)
    if part in DOORS:
        return
    theirs = of_innerloop(path) - {part}
    above = (UPPER.keys() | DOORS) - UPPER.get(part, set())
    assert not theirs & above, f"{part} may not import {theirs & above}"
    if part in LOWER:
        assert theirs <= LOWER[part], f"{part} may not import {theirs - LOWER[part]}"
    assert theirs <= PARTS, f"import {theirs - PARTS} from the module that has it, not from the package"
    assert "innerloop" not in imported(path)


@pytest.mark.parametrize("part", ONLY_TORCH)
def test_the_core_needs_torch_only(part):
    roots = {name.split(".")[0] for name in imported(ROOT / f"{part}.py")}
    assert roots - {"innerloop"} <= LIGHT


def test_importing_innerloop_loads_no_heavy_library():
    code = "import sys, innerloop; print(*({'matplotlib', 'tyro', 'tensorboard'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
