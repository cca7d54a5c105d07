"""Who imports whom, read from the syntax tree: imports inside functions count too."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("pipeline", "export", "runtime")


def modules() -> dict[str, Path]:
    """Every module of the three rooms by its dotted name."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
    return {f"{path.parent.name}.{path.stem}": path for path in paths}


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
