"""Rooms talk downward only, and what must be light is light."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.rooms import (
    MAY_IMPORT,
    PACKAGES,
    ROOT,
    STAGE_NAMES,
    House,
    circles,
    forbidden_imports,
    imports_with_telemetry,
    room_of,
    stage_module,
    unreached_modules,
    wrong_dependencies,
)

HOUSE = House(ROOT)
DATA_STAGES = ("extract", "augment", "split", "report", "bundle")
TRAINING_LIBRARIES = {"torch", "torchvision", "timm", "accelerate", "sklearn", "scipy", "dvclive", "onnx"}
ON_THE_DEVICE = {"numpy", "onnxruntime", "PIL", "cv2", "av", "runtime"} | sys.stdlib_module_names
EXIT_CODES = "pipeline.cli.exit_codes"
MODULES = sorted(HOUSE.modules)


@pytest.fixture
def copy(tmp_path: Path) -> House:
    """A copy of the code and of `dvc.yaml`, in which a test plants a fault."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return House(tmp_path)


def plant(house: House, path: str, line: str) -> None:
    """Add a line to a file of the copy, or make the file."""
    target = house.root / path
    target.parent.mkdir(exist_ok=True)
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    target.write_text(f"{text}\n{line}\n", encoding="utf-8")


@pytest.mark.parametrize(
    "law", [forbidden_imports, circles, wrong_dependencies, unreached_modules, imports_with_telemetry]
)
def test_the_house_keeps_its_laws(law: Callable[[House], list[str]]) -> None:
    assert law(HOUSE) == []
    assert len(MODULES) > 100  # a law over no module would pass too


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("pipeline/train/fit.py", "from pipeline.evaluate.metrics import top1", "may not import pipeline.evaluate"),
        ("pipeline/base/files.py", "from pipeline.media import photos", "base may not import pipeline.media"),
        ("pipeline/media/photos.py", "from pipeline.network import heads", "media may not import pipeline.network"),
        ("pipeline/split/near_duplicates/search.py", "import pipeline.train.stage", "may not import pipeline.train"),
        ("pipeline/report/stage.py", "from pipeline.params import Params", "report may not import pipeline.params"),
        ("pipeline/extract/stage.py", "from pipeline.tools import add", "extract may not import pipeline.tools"),
        ("pipeline/evaluate/stage.py", "from export.graphs import gates", "evaluate may not import export.graphs"),
        ("runtime/images/pillow.py", "from pipeline.base import errors", "runtime may not import pipeline.base"),
        ("export/bundle/stage.py", "def late():\n    from export.graphs import gates", "may not import export.graphs"),
        ("pipeline/utils/misc.py", "", "the room pipeline.utils is not in the table"),
        ("pipeline/tools/studies/study.py", "import pipeline.tools.compare.table", "may not import pipeline.tools"),
    ],
)  # fmt: skip
def test_an_import_that_the_table_does_not_allow_is_seen(copy: House, path: str, line: str, fault: str) -> None:
    plant(copy, path, line)
    assert [line for line in forbidden_imports(copy) if fault in line]


def test_a_circle_of_rooms_is_seen(copy: House) -> None:
    plant(copy, "pipeline/base/frames.py", "from pipeline.draw import sheets")
    assert circles(copy)[0].count("pipeline.base") + circles(copy)[0].count("pipeline.draw") == 3


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("pipeline/augment/stage.py", "import pipeline.draw.sheets", "augment: imports pipeline/draw, which dvc.yaml"),
        ("pipeline/extract/stage.py", "import runtime.session", "extract: imports runtime/session.py, which dvc.yaml"),
    ],
)  # fmt: skip
def test_a_room_that_a_stage_imports_and_does_not_list_is_seen(copy: House, path: str, line: str, fault: str) -> None:
    plant(copy, path, line)
    assert [line for line in wrong_dependencies(copy) if fault in line]


def test_a_room_that_a_stage_lists_and_does_not_import_is_seen(copy: House) -> None:
    text = (copy.root / "dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("      - pipeline/augment\n", "      - pipeline/augment\n      - pipeline/media\n")
    (copy.root / "dvc.yaml").write_text(text, encoding="utf-8")
    assert wrong_dependencies(copy) == ["augment: dvc.yaml lists pipeline/media, which it does not import"]


def test_a_module_that_its_stage_does_not_reach_is_seen(copy: House) -> None:
    plant(copy, "pipeline/split/near_duplicates/forgotten.py", "")
    assert unreached_modules(copy) == [
        "pipeline.split.near_duplicates.forgotten: not reached from pipeline.split.stage"
    ]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pipeline/tools/doctor.py", "import onnxruntime"),
        ("runtime/bench.py", "def late():\n    from onnxruntime import InferenceSession"),
        ("export/export/search.py", "def late():\n    from onnxruntime.quantization import QuantType"),
    ],
)
def test_an_import_of_onnxruntime_with_its_telemetry_is_seen(copy: House, path: str, line: str) -> None:
    plant(copy, path, line)
    assert len(imports_with_telemetry(copy)) == 1


def test_every_room_has_a_front_page_that_holds_a_docstring_and_nothing_else() -> None:
    pages = [path for path in HOUSE.modules.values() if path.name == "__init__.py" and path.parts[-3] != "runtime"]
    assert {room_of(name) for name in MODULES} - {"pipeline.params", "pipeline.__main__", *PACKAGES} <= {
        ".".join(path.relative_to(ROOT).parts[:-1]) for path in pages
    }
    for path in pages:
        if path.parent != ROOT / "runtime":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path
            assert len(tree.body) == 1, path


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_stage_module_has_one_public_function_of_its_name(stage: str) -> None:
    tree = ast.parse(HOUSE.modules[stage_module(stage)].read_text(encoding="utf-8"))
    assert stage in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "runtime"])
def test_the_device_needs_numpy_and_onnxruntime_alone(name: str) -> None:
    roots = {imported.split(".")[0] for imported in HOUSE.all_imports(name)}
    assert roots <= ON_THE_DEVICE | {"__future__"}


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_a_stage_without_a_network_needs_no_training_library(stage: str) -> None:
    needed = HOUSE.needed_by(stage_module(stage))
    roots = {imported.split(".")[0] for module in needed for imported in HOUSE.all_imports(module)}
    assert not (roots & TRAINING_LIBRARIES)


@pytest.mark.parametrize("arguments", [["-m", "pipeline", "--help"], ["-c", "import runtime"]])
def test_help_and_the_runtime_load_nothing_heavy(arguments: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in finished.stderr.splitlines() if "|" in line}
    assert not (loaded & (TRAINING_LIBRARIES | {"pydantic", "cv2", "av", "rich", "dvc"}))


@pytest.mark.parametrize("stage", ["export.export", "export.parity"])
def test_stages_that_judge_graphs_load_no_library_of_statistics(stage: str) -> None:
    code = f"import sys, {stage}.stage; print({{'scipy.stats', 'scipy.optimize', 'sklearn'}} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


def test_a_package_loads_none_of_its_modules_until_they_are_asked_for() -> None:
    code = "import sys, pipeline, export, runtime; print([name for name in sys.modules if name.startswith(ROOMS)])"
    code = code.replace("ROOMS", "('pipeline.', 'export.', 'runtime.')")
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("name", MODULES)
def test_functions_are_short_and_have_few_arguments(name: str) -> None:
    for node in _functions(HOUSE.modules[name]):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        assert len([a for a in arguments if a.arg not in ("self", "cls")]) <= 6, node.name
        assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_there_is_one_broad_except_and_it_stands_where_exit_codes_are_made() -> None:
    broad = [
        name
        for name, path in HOUSE.modules.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert broad == [EXIT_CODES]


def test_the_table_names_only_rooms_that_exist() -> None:
    assert set(MAY_IMPORT) <= {room_of(name) for name in MODULES}
