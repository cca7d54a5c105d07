"""The doctor reports each check, and fails a machine on which the toolchain cannot work."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base.project import OWN_PACKAGES, Project
from pipeline.tools import doctor
from pipeline.tools.doctor import ONE_NODE_GRAPH, MachineCheck, examine, run_one_node
from tests.support.command import ROOT, run_pipe

CPU = "CPUExecutionProvider"


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *distributions: str) -> None:
    def version(name: str) -> str:
        if name in distributions:
            return "1.2.3"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def pretend_missing(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def pretend_child(monkeypatch: pytest.MonkeyPatch, **answer: Any) -> None:
    result = SimpleNamespace(**{"returncode": 0, "stdout": "", "stderr": ""} | answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: result)


def test_this_machine_can_work_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    report = examine(Project(ROOT))
    checks = {check.name: check for check in report.checks}
    assert report.failed == []
    assert report.headline.startswith(f"{len(checks)} checks, ")
    assert re.search(r", \d+ warnings?, 0 failed$", report.headline)
    names = (
        "Python",
        "pipeline",
        "export",
        "runtime",
        "torch",
        "onnxruntime",
        CPU,
        "OpenCV",
        "PyAV",
        "DVC",
        "git",
        "disk",
    )
    assert [name for name in names if name not in checks] == []
    assert checks[CPU].text == "loads and runs a node"
    assert not any("\n" in str(check) for check in report.checks)
    assert capfd.readouterr() == ("", "")


def plant_package(folder: Path, name: str) -> Path:
    """A foreign package in a folder."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    return folder / name


def pretend_imported(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Let Python search `folder` first, as if the package had not been imported yet."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def pretend_distributions(monkeypatch: pytest.MonkeyPatch, **distributions: list[str]) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: distributions)


@pytest.mark.parametrize("name", OWN_PACKAGES)
def test_a_folder_that_hides_our_package_fails_with_both_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    foreign = plant_package(tmp_path, name)
    pretend_imported(monkeypatch, tmp_path, name)
    pretend_distributions(monkeypatch)
    checks = {check.name: check for check in doctor._own_packages()}
    assert [check.name for check in checks.values() if check.level == "fail"] == [name]
    assert checks[name].text == (
        f"{foreign} hides our package; expected {ROOT / name}; rename it, or take {tmp_path} off Python's path"
    )


def test_a_distribution_that_hides_our_package_is_to_be_uninstalled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant_package(tmp_path, "export")
    pretend_imported(monkeypatch, tmp_path, "export")
    pretend_distributions(monkeypatch, export=["clip2edge", "foreign-tools"])
    levels = {check.name: (check.level, check.text) for check in doctor._own_packages()}
    assert levels["export"][0] == "fail"
    assert levels["export"][1].endswith("; uninstall foreign-tools")


def test_a_module_file_hides_our_package_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runtime.py").touch()
    pretend_imported(monkeypatch, tmp_path, "runtime")
    pretend_distributions(monkeypatch)
    assert [check.name for check in doctor._own_packages() if check.level == "fail"] == ["runtime"]


def test_a_distribution_with_a_package_of_our_name_is_a_warning_while_ours_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_distributions(monkeypatch, pipeline=["foreign-tools", "clip2edge"], export=["clip2edge"])
    checks = {check.name: check for check in doctor._own_packages()}
    assert [check.level for check in checks.values()] == ["warn", "ok", "ok"]
    assert "foreign-tools has a package of this name too" in checks["pipeline"].text


def test_the_command_names_a_foreign_package_that_hides_ours(tmp_path: Path) -> None:
    foreign = plant_package(tmp_path, "runtime")
    finished = run_pipe(tmp_path, "doctor")  # Python searches the working folder first
    assert finished.returncode == 1
    assert f"fail runtime: {foreign} hides our package; expected {ROOT / 'runtime'}" in finished.stdout
    assert finished.stderr.startswith("pipe: doctor: runtime")


def test_a_check_is_a_line_that_begins_with_its_level() -> None:
    assert str(MachineCheck("ok", "git", "2.39")) == "ok   git: 2.39"
    assert str(MachineCheck("warn", "disk", "2.0 GiB")) == "warn disk: 2.0 GiB"


def test_the_graph_has_one_node_and_old_runtimes_read_it() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(ONE_NODE_GRAPH)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Add"]
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)


def test_the_cpu_runs_a_node() -> None:
    assert run_one_node(CPU) is None  # does not raise


def test_a_provider_that_does_not_load_is_not_taken_for_the_one_that_stepped_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = SimpleNamespace(get_providers=lambda: [CPU])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    with pytest.raises(RuntimeError, match="CUDAExecutionProvider did not load"):
        run_one_node("CUDAExecutionProvider")


def test_a_provider_that_cannot_add_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    np = importlib.import_module("numpy")
    session = SimpleNamespace(get_providers=lambda: [CPU], run=lambda *_: [np.float32([3])])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    with pytest.raises(RuntimeError, match=r"1 \+ 1 = \[3.0\]"):
        run_one_node(CPU)


def test_both_onnxruntime_wheels_at_once_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    check = doctor._onnxruntime()
    assert check.level == "fail"
    assert "onnxruntime 1.2.3 and onnxruntime-gpu 1.2.3 are both installed" in check.text


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_either_onnxruntime_wheel_alone_is_fine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_installed(monkeypatch, name)
    assert doctor._onnxruntime() == MachineCheck("ok", "onnxruntime", f"{name} 1.2.3")


def test_no_onnxruntime_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch)
    pretend_missing(monkeypatch, "onnxruntime")
    assert doctor._onnxruntime().level == "fail"
    assert [check.level for check in doctor._providers()] == ["fail"]


def test_half_an_onnxruntime_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    half = SimpleNamespace(set_default_logger_severity=lambda _: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", half)
    (check,) = doctor._providers()
    assert check.level == "fail"
    assert "get_available_providers" in check.text


def test_a_cpu_provider_that_crashes_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_child(monkeypatch, returncode=-11)
    assert doctor._provider(CPU) == MachineCheck("fail", CPU, "does not run (it crashed); reinstall onnxruntime")


def test_a_provider_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_SECONDS", 0.001)
    assert "gave no answer" in doctor._provider(CPU).text


def test_cuda_that_does_not_load_is_a_warning_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "FAIL : Failed to load library a.so with error: libcudnn.so.9: cannot open\nRuntimeError: no"
    pretend_child(monkeypatch, returncode=1, stderr=noise)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    check = doctor._provider("CUDAExecutionProvider")
    assert check.level == "warn"
    assert "libcudnn.so.9: cannot open" in check.text
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert doctor._provider("CUDAExecutionProvider").level == "ok"


def test_no_torch_is_a_warning_since_the_data_stages_work_without(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_missing(monkeypatch, "torch")
    check = doctor._torch()
    assert check.level == "warn"
    assert "[train]" in check.text


@pytest.mark.parametrize(("name", "module"), [("OpenCV", "cv2"), ("PyAV", "av"), ("DVC", "dvc")])
def test_a_missing_library_fails(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    pretend_missing(monkeypatch, module)
    assert doctor._library(name, module).level == "fail"


def test_no_git_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor._git().level == "fail"


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    assert doctor._python() == MachineCheck("fail", "Python", "3.10.12; expected at least 3.11")


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "fail"), (5, "warn"), (50, "ok")])
def test_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gib: float, level: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_gib * 2**30))
    assert doctor._disk(tmp_path).level == level


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
@pytest.mark.parametrize(("limit", "level"), [(256, "warn"), (4096, "ok"), (-1, "ok")])
def test_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch, limit: int, level: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert [check.level for check in doctor._open_files()] == [level]
