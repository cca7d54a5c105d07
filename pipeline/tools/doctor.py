"""What this machine has and lacks. Each check tries the thing itself and assumes nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import PipeError, one_line
from pipeline.base.project import OWN_PACKAGES, Project
from pipeline.base.words import counted
from pipeline.tools.project.surroundings import (
    identity_problem,
    linked_raw_problem,
    repository_problem,
    windows_drive_problem,
)

Level = Literal["ok", "warn", "fail"]

_OLDEST_PYTHON = (3, 11)
_PROBE_TIMEOUT_SECONDS = 120  # loading CUDA for the first time takes a while
_LOW_DISK_GIB = 10
_NO_DISK_GIB = 1
_FEW_OPEN_FILES = 1024
_OWN_DISTRIBUTION = "clip2edge"

# A graph of one node, y = x + x over float32 (1,), opset 18, IR 8. These are its bytes, since only the extra `train`
# has onnx.
ONE_NODE_GRAPH = bytes.fromhex(
    "08083a370a0e0a01780a0178120179220341646412036f6e655a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001012"
)


@dataclass(frozen=True)
class MachineCheck:
    """The result of one check. The toolchain works with a `warn`, and does not with a `fail`."""

    level: Level
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4} {self.name}: {self.text}"


@dataclass(frozen=True)
class MachineReport:
    """All checks of a machine."""

    checks: tuple[MachineCheck, ...]

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if check.level == "fail"]

    @property
    def headline(self) -> str:
        """The closing line."""
        n_warnings = sum(check.level == "warn" for check in self.checks)
        return f"{len(self.checks)} checks, {counted(n_warnings, 'warning')}, {len(self.failed)} failed"


def examine(project: Project) -> MachineReport:
    """Check Python, our own packages, torch, onnxruntime and its providers, other libraries, DVC, git, disk, files.

    In a project it also checks what stands around the project, and its toolchain.
    """
    checks = [
        _python(),
        *_own_packages(),
        _torch(),
        _onnxruntime(),
        *_providers(),
        _library("OpenCV", "cv2"),
        _library("PyAV", "av"),
        _library("DVC", "dvc"),
        _git(),
        _disk(project.root),
        *_open_files(),
        *_around(project),
        *_toolchain(project),
    ]
    return MachineReport(tuple(checks))


def run_one_node(provider: str) -> None:
    """Load one execution provider of onnxruntime and let it compute 1 + 1.

    Raises:
        RuntimeError: another provider took over, or the sum is wrong. Errors of the provider itself pass through.
    """
    import numpy as np

    from runtime.providers import preload
    from runtime.session import onnxruntime

    library = onnxruntime()
    preload(library, [provider])
    session: Any = library.InferenceSession(ONE_NODE_GRAPH, providers=[provider], enable_fallback=0)
    loaded = session.get_providers()[0]
    if loaded != provider:
        raise RuntimeError(f"{provider} did not load, {loaded} did")
    (result,) = session.run(None, {"x": np.ones(1, np.float32)})
    if result.tolist() != [2.0]:
        raise RuntimeError(f"{provider} computed 1 + 1 = {result.tolist()}")


def _python() -> MachineCheck:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _OLDEST_PYTHON:
        return MachineCheck("fail", "Python", f"{version}; expected at least {'.'.join(map(str, _OLDEST_PYTHON))}")
    return MachineCheck("ok", "Python", version)


def _own_packages() -> Iterator[MachineCheck]:
    """Check that Python imports our packages, and no foreign ones of the same name."""
    own_folder = Path(__file__).resolve().parents[2]  # holds the three packages
    distributions = importlib.metadata.packages_distributions()
    for package in OWN_PACKAGES:
        foreign = sorted(set(distributions.get(package, ())) - {_OWN_DISTRIBUTION})
        yield _own_package(own_folder / package, " and ".join(foreign))


def _own_package(folder: Path, foreign_distribution: str) -> MachineCheck:
    """Check that `folder` is what Python imports by its name; a foreign distribution may have that name too."""
    spec = importlib.util.find_spec(folder.name)
    locations = [Path(path).resolve() for path in _locations(spec)]
    hiding = [path for path in locations if path.parent != folder.parent]
    if hiding:
        rename = f"rename it, or take {hiding[0].parent} off Python's path"
        advice = f"uninstall {foreign_distribution}" if foreign_distribution else rename
        return MachineCheck("fail", folder.name, f"{hiding[0]} hides our package; expected {folder}; {advice}")
    if foreign_distribution:
        text = f"{foreign_distribution} has a package of this name too; uninstall it before it hides ours"
        return MachineCheck("warn", folder.name, text)
    return MachineCheck("ok", folder.name, str(folder))


def _locations(spec: ModuleSpec | None) -> list[str]:
    """The folders of a package, or the file of a module."""
    if spec is None:
        return []
    return list(spec.submodule_search_locations or filter(None, [spec.origin]))


def _torch() -> MachineCheck:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a CUDA library of another version
        return MachineCheck(
            "warn", "torch", f"cannot be imported ({one_line(error)}); training needs `pip install '.[train]'`"
        )
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        device = f"CUDA, {torch.cuda.get_device_name()}"
    else:
        bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        device = f"cpu, {torch.get_num_threads()} threads"
    return MachineCheck("ok", "torch", f"{torch.__version__} on {device}, {'bf16' if bf16 else 'no bf16'}")


def _onnxruntime() -> MachineCheck:
    versions = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    installed = [f"{name} {version}" for name, version in versions.items() if version]
    if len(installed) == 1:
        return MachineCheck("ok", "onnxruntime", installed[0])
    if installed:
        advice = "they share a folder and break each other: uninstall both, then install one"
        return MachineCheck("fail", "onnxruntime", f"{' and '.join(installed)} are both installed; {advice}")
    return MachineCheck(
        "fail", "onnxruntime", "not installed; expected onnxruntime-gpu where it has a wheel, or onnxruntime"
    )


def _providers() -> Iterator[MachineCheck]:
    try:
        from runtime.errors import DeviceError
        from runtime.session import onnxruntime
    except ImportError as error:  # a foreign package hides our `runtime`; another check names it
        yield MachineCheck("fail", "providers", f"our runtime cannot be imported ({one_line(error)})")
        return
    try:
        providers = onnxruntime().get_available_providers()
    # AttributeError: an incomplete package, after one of the two distributions was uninstalled.
    except (DeviceError, AttributeError) as error:
        yield MachineCheck("fail", "providers", f"onnxruntime cannot be used ({one_line(error)}); reinstall it")
        return
    for provider in sorted(providers):
        yield _provider(provider)


def _provider(provider: str) -> MachineCheck:
    """Try a provider in a child process, since some print when they fail and some crash."""
    command = [sys.executable, "-c", f"from pipeline.tools.doctor import run_one_node; run_one_node({provider!r})"]
    # The child must find this package, wherever it is.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    limit = _PROBE_TIMEOUT_SECONDS
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return MachineCheck("fail", provider, f"gave no answer within {limit} s")
    if child.returncode == 0:
        return MachineCheck("ok", provider, "loads and runs a node")
    if provider == "CPUExecutionProvider":
        return MachineCheck("fail", provider, f"does not run ({_reason(child.stderr)}); reinstall onnxruntime")
    if provider == "CUDAExecutionProvider" and Path("/dev/nvidiactl").exists():
        return MachineCheck(
            "warn", provider, f"does not load ({_reason(child.stderr)}), though there is an NVIDIA device"
        )
    return MachineCheck("ok", provider, "is in the wheel and does not load here; the next provider is used")


def _library(name: str, module: str) -> MachineCheck:
    try:
        version = importlib.import_module(module).__version__
    except (ImportError, OSError) as error:
        return MachineCheck("fail", name, f"cannot be imported ({one_line(error)}); run `pip install .`")
    return MachineCheck("ok", name, version)


def _git() -> MachineCheck:
    if shutil.which("git") is None:
        return MachineCheck("fail", "git", "not found; DVC's experiments need it")
    answer = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False)
    return MachineCheck("ok", "git", answer.stdout.strip().removeprefix("git version "))


def _around(project: Project) -> Iterator[MachineCheck]:
    """Check what git knows of the person, and of the project; a check that finds no problem leaves no line."""
    problems: list[tuple[Level, str, str | None]] = [
        ("warn", "identity", identity_problem(project.root)),
        ("fail", "repository", repository_problem(project)),
        ("warn", "recordings", linked_raw_problem(project)),
        ("warn", "drive", windows_drive_problem(project.root)),
    ]
    for level, name, problem in problems:
        if problem:
            yield MachineCheck(level, name, problem)


def _toolchain(project: Project) -> Iterator[MachineCheck]:
    """Check that the installed code is the one that the project's results were made with; a clone has its own."""
    if not os.path.lexists(project.toolchain_lock):
        return
    try:
        from pipeline.tools.project.toolchain import changed_stages, installed_version, read_toolchain
    except ImportError:  # a foreign package hides our `runtime`; another check names it
        return
    try:
        other = changed_stages(read_toolchain(project))
    except PipeError as error:
        yield MachineCheck("fail", "toolchain", one_line(error))
        return
    text = f"{', '.join(other)}: other code than toolchain.lock names; install its version, or run `pipe upgrade`"
    yield MachineCheck("fail", "toolchain", text) if other else MachineCheck("ok", "toolchain", installed_version())


def _disk(folder: Path) -> MachineCheck:
    free_gib = shutil.disk_usage(folder).free / 2**30
    text = f"{free_gib:.1f} GiB free in {folder}"
    if free_gib < _NO_DISK_GIB:
        return MachineCheck("fail", "disk", f"{text}; expected at least {_NO_DISK_GIB}")
    return MachineCheck("warn" if free_gib < _LOW_DISK_GIB else "ok", "disk", text)


def _open_files() -> Iterator[MachineCheck]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= limit < _FEW_OPEN_FILES  # a negative limit means none
    yield MachineCheck(
        "warn" if few else "ok", "open files", f"limit {limit}{'; raise it with `ulimit -n`' if few else ''}"
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _reason(stderr: str) -> str:
    """Why a child process failed: the missing library, or the exception."""
    missing = re.search(r"with error: (.+)", stderr)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return missing.group(1) if missing else (lines or ["it crashed"])[-1]
