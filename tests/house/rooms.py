"""Who imports whom, read from the syntax tree: imports inside functions count too."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("pipeline", "export", "runtime")
STAGE_NAMES = ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle")


def modules() -> dict[str, Path]:
    """Every module of the three packages, sub-folders included, by its dotted name."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """The dotted names that a file imports, `from a import b` as both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def needed_by(name: str) -> set[str]:
    """The modules of the house that a module needs to run, itself included."""
    known = modules()
    needed, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in needed:
            continue
        needed.add(current)
        waiting += [other for other in imports_of(known[current]) if other in known]
    return needed


def module_of_stage(stage: str) -> str:
    """The module that holds a stage's one public function."""
    names = (f"{package}.{stage}{suffix}" for suffix in (".stage", "") for package in ("export", "pipeline"))
    return next(name for name in names if name in modules())
