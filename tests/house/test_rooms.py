"""Rooms talk downward only, and what must be light is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from rooms import ROOT, STAGE_NAMES, imports_of, module_of_stage, modules, needed_by

STAGES = {module_of_stage(name) for name in STAGE_NAMES}
DOOR, EXIT_CODES = "pipeline.cli.main", "pipeline.cli.exit_codes"
DATA_STAGES = [module_of_stage(name) for name in ("extract", "augment", "split", "report", "bundle")]
TRAINING_LIBRARIES = {"torch", "torchvision", "timm", "accelerate", "sklearn", "scipy", "dvclive", "onnx"}
ON_THE_DEVICE = {"numpy", "onnxruntime", "PIL", "cv2", "runtime"} | sys.stdlib_module_names


@pytest.mark.parametrize("name", sorted(STAGES))
def test_stages_talk_through_files_and_never_import_one_another(name: str) -> None:
    assert not (imports_of(modules()[name]) & STAGES)


@pytest.mark.parametrize("name", sorted(set(modules()) - {DOOR, "pipeline.__main__"}))
def test_only_the_command_line_imports_upwards(name: str) -> None:
    roots = {imported.split(".")[0] for imported in imports_of(modules()[name])}
    assert DOOR not in imports_of(modules()[name])
    if name.startswith("pipeline."):
        assert "export" not in roots
    if name.startswith("runtime."):
        assert roots <= ON_THE_DEVICE | {"__future__"}


@pytest.mark.parametrize("name", DATA_STAGES)
def test_a_stage_without_a_network_needs_no_training_library(name: str) -> None:
    roots = {imported.split(".")[0] for module in needed_by(name) for imported in imports_of(modules()[module])}
    assert not (roots & TRAINING_LIBRARIES)


@pytest.mark.parametrize("arguments", [["-m", "pipeline", "--help"], ["-c", "import runtime"]])
def test_help_and_the_runtime_load_nothing_heavy(arguments: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in finished.stderr.splitlines() if "|" in line}
    assert not (loaded & (TRAINING_LIBRARIES | {"pydantic", "cv2", "av", "rich", "dvc"}))


def test_a_package_loads_none_of_its_modules_until_they_are_asked_for() -> None:
    code = "import sys, pipeline, export, runtime; print([name for name in sys.modules if name.startswith(ROOMS)])"
    code = code.replace("ROOMS", "('pipeline.', 'export.', 'runtime.')")
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("name", sorted(modules()))
def test_functions_are_short_and_have_few_arguments(name: str) -> None:
    path = modules()[name]
    for node in _functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        assert len([a for a in arguments if a.arg not in ("self", "cls")]) <= 6, node.name
        assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_there_is_one_broad_except_and_it_stands_at_the_door() -> None:
    broad = [
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert broad == [EXIT_CODES]
