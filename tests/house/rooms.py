"""The rooms of the house and the laws between them, read from syntax trees: imports inside functions count too."""

from __future__ import annotations

import ast
import functools
import graphlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "export", "runtime")
STAGE_NAMES = ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle")

_LOWER = {"pipeline.base", "runtime"}
# docs/architecture.md has this table. The roof is not in it: it may import anything below, and nobody imports it.
MAY_IMPORT: dict[str, set[str]] = {
    "runtime": set(),
    "pipeline.base": {"runtime"},
    "pipeline.media": _LOWER,
    "pipeline.draw": _LOWER,
    "pipeline.network": _LOWER,
    "pipeline.extract": _LOWER | {"pipeline.media"},
    "pipeline.augment": _LOWER,
    "pipeline.split": _LOWER | {"pipeline.draw"},
    "pipeline.train": _LOWER | {"pipeline.network"},
    "pipeline.evaluate": _LOWER | {"pipeline.draw", "pipeline.network"},
    "pipeline.report": _LOWER,
    "export.graphs": _LOWER | {"pipeline.network"},
    "export.export": _LOWER | {"pipeline.network", "export.graphs"},
    "export.parity": _LOWER | {"pipeline.draw", "pipeline.network", "export.graphs"},
    "export.bundle": _LOWER,
    "export.phone": _LOWER,
    "export.against": _LOWER | {"pipeline.network", "export.graphs"},
}
ROOF = ("pipeline.tools", "pipeline.cli", "pipeline.params", "pipeline.__main__")
COMPARE, STUDIES = "pipeline.tools.compare", "pipeline.tools.studies"  # the first may import the second


@dataclass(frozen=True)
class House:
    """A checkout: its modules, who imports whom, and what `dvc.yaml` lists."""

    root: Path

    @functools.cached_property
    def modules(self) -> dict[str, Path]:
        """Every module of the three packages, sub-folders included, by its dotted name."""
        paths = [path for package in PACKAGES for path in sorted((self.root / package).rglob("*.py"))]
        return {self._name(path): path for path in paths}

    @functools.cached_property
    def stages(self) -> dict[str, Any]:
        """The stages of `dvc.yaml`."""
        stages: dict[str, Any] = YAML(typ="safe").load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        return stages

    def imports(self, name: str) -> set[str]:
        """The modules of the house that a module imports, `from a import b` as both `a` and `a.b`."""
        return {imported for imported in self.all_imports(name) if imported in self.modules}

    def all_imports(self, name: str) -> frozenset[str]:
        """Every dotted name that a module imports, of other packages too."""
        return _imports_in(self.modules[name])

    def needed_by(self, name: str) -> set[str]:
        """The modules of the house that a module needs to run, itself included."""
        needed, waiting = set[str](), [name]
        while waiting:
            current = waiting.pop()
            if current not in needed:
                needed.add(current)
                waiting += self.imports(current)
        return needed

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _imports_in(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def room_of(name: str) -> str:
    """`pipeline.train.fit` lies in the room `pipeline.train`, `runtime.session` in `runtime`."""
    return "runtime" if name.split(".", maxsplit=1)[0] == "runtime" else ".".join(name.split(".")[:2])


def stage_room(stage: str) -> str:
    """The room of a stage."""
    return f"export.{stage}" if stage in ("export", "parity", "bundle") else f"pipeline.{stage}"


def stage_module(stage: str) -> str:
    """The module that holds a stage's one public function of its name."""
    return f"{stage_room(stage)}.stage"


def forbidden_imports(house: House) -> list[str]:
    """Every import that the table does not allow, and every room that it does not know."""
    faults = []
    for name in house.modules:
        room = room_of(name)
        if name in PACKAGES or room in ROOF:
            continue
        if room not in MAY_IMPORT:
            faults.append(f"{name}: the room {room} is not in the table")
            continue
        wanted = {room_of(imported) for imported in house.imports(name) if imported not in PACKAGES} - {room}
        faults += [f"{name}: {room} may not import {other}" for other in sorted(wanted - MAY_IMPORT[room])]
    below = [name for name in house.modules if name.startswith(STUDIES)]
    faults += [f"{name}: may not import {COMPARE}" for name in below if _some(house.imports(name), COMPARE)]
    return faults


def _some(names: set[str], room: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for name in names)


def circles(house: House) -> list[str]:
    """The first circle of rooms that import one another; the roof's rooms count too."""
    arrows: dict[str, set[str]] = {}
    for name in house.modules:
        if name not in PACKAGES:
            others = {room_of(imported) for imported in house.imports(name) if imported not in PACKAGES}
            arrows.setdefault(room_of(name), set()).update(others - {room_of(name)})
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return [" imports ".join(error.args[1][::-1])]
    return []


def folders_imported(house: House, stage: str) -> set[str]:
    """The code that a stage imports as `dvc.yaml` lists it: rooms as folders, of `runtime` its files and folders."""
    # The command line reads the stage's section for it.
    needed = house.needed_by(stage_module(stage)) | house.needed_by("pipeline.base.section")
    folders = set()
    for name in needed - set(PACKAGES):
        if room_of(name) == "runtime":
            part = Path("runtime", name.split(".")[1])
            folders.add(str(part) if (house.root / part).is_dir() else f"{part}.py")
        else:
            folders.add(room_of(name).replace(".", "/"))
    return folders


def wrong_dependencies(house: House) -> list[str]:
    """Every stage whose code in `dvc.yaml` is not exactly the rooms that it imports."""
    faults = []
    for stage in house.stages:
        listed = {dep for dep in house.stages[stage]["deps"] if dep.split("/")[0] in PACKAGES}
        needed = folders_imported(house, stage)
        if "runtime" in listed:  # the whole of it: what ships, or what the device would compute
            needed = {folder for folder in needed if not folder.startswith("runtime/")} | {"runtime"}
        faults += [f"{stage}: imports {folder}, which dvc.yaml does not list" for folder in sorted(needed - listed)]
        faults += [f"{stage}: dvc.yaml lists {folder}, which it does not import" for folder in sorted(listed - needed)]
    return faults


LIBRARY, ONE_IMPORTER = "onnxruntime", "runtime.session"


def imports_with_telemetry(house: House) -> list[str]:
    """Every import of onnxruntime that does not go through the one function that switches its telemetry off first.

    A module of the library, such as `onnxruntime.quantization`, may be imported after a call of that function.
    """
    faults = []
    for name, path in house.modules.items():
        if name == ONE_IMPORTER:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
            is_off = False
            for node in scope.body:
                calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
                is_off = is_off or any(isinstance(call, ast.Name) and call.id == LIBRARY for call in calls)
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                faults += [
                    f"{name}:{node.lineno}: imports {module} with its telemetry"
                    for module in modules
                    if module == LIBRARY or (module.startswith(f"{LIBRARY}.") and not is_off)
                ]
    return faults


def unreached_modules(house: House) -> list[str]:
    """Every module of a stage's room that its `stage.py` does not reach."""
    faults = []
    for stage in STAGE_NAMES:
        room = stage_room(stage)
        inside = {name for name, path in house.modules.items() if room_of(name) == room and path.name != "__init__.py"}
        faults += [
            f"{name}: not reached from {room}.stage" for name in sorted(inside - house.needed_by(f"{room}.stage"))
        ]
    return faults
