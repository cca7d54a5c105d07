"""A public function with three or more parameters explains each of them, with shape, dtype and unit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.rooms import ROOT, House

MANY = 3
# The options of a command are explained by its help.
MODULES = {name: path for name, path in House(ROOT).modules.items() if not name.startswith("pipeline.cli")}


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions of a module and methods of its classes, without those that begin with an underscore."""
    for node in tree.body:
        for part in node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                yield part


def unexplained(tree: ast.Module) -> list[str]:
    """Every parameter that should be explained under `Args:` and is not, as `function: parameter`."""
    faults = []
    for function in public_functions(tree):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        section = (ast.get_docstring(function) or "").partition("Args:\n")[2]
        lacking = [name for name in names if not re.search(rf"^ +(\w+, )*{name}(, \w+)*: ", section, re.MULTILINE)]
        faults += [f"{function.name}: {name}" for name in lacking if len(names) >= MANY]
    return faults


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_every_parameter_of_a_public_function_with_many_is_explained(path: Path) -> None:
    assert unexplained(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_a_parameter_that_is_not_explained_is_seen() -> None:
    tree = ast.parse('def crop(a, b, c):\n    """Crop.\n\n    Args:\n        a, b: pixels.\n    """\n')
    assert unexplained(tree) == ["crop: c"]
