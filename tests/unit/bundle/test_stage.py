"""The bundle: what it holds, and that there is none when a gate refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle.stage import bundle
from pipeline.base.errors import DataError, GateError
from pipeline.base.project import Project
from runtime.archive import bundle_id, unpack, verify
from runtime.contract import Contract
from runtime.errors import ContractError
from runtime.selfcheck import selfcheck
from tests.support.tiny_bundle import ROOT, colour_graph, draft_contract, renew, write_json, write_project


def parity(project: Project) -> dict[str, Any]:
    """The content of parity.json, which a test may change."""
    values: dict[str, Any] = json.loads(project.parity_json.read_text(encoding="utf-8"))
    return values


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    """A project with one variant that passed, and an earlier bundle that must not be taken for the new one."""
    project = write_project(tmp_path / "project")
    project.bundle_zip.parent.mkdir()
    project.bundle_zip.write_text("an earlier bundle")
    return project


def assert_refused(project: Project, kind: type[Exception], reason: str) -> None:
    """Bundling fails with one line, and dist/ is empty afterwards: the earlier bundle is gone too."""
    with pytest.raises(kind, match=reason) as caught:
        bundle(project)
    assert "\n" not in str(caught.value)
    assert list(project.bundle_zip.parent.iterdir()) == []


def test_a_bundle_holds_all_that_a_device_and_a_reader_need(tiny: Project, tmp_path: Path) -> None:
    report = bundle(tiny)
    with zipfile.ZipFile(tiny.bundle_zip) as archive:
        names = archive.namelist()
    assert names == sorted(names)
    assert len(names) == report.n_files
    assert [name for name in names if not name.startswith("runtime/")] == [
        "NOTICES", "README.md", "SHA256SUMS", "contract.json",
        "golden/000.jpg", "golden/000.npy", "golden/001.jpg", "golden/001.npy", "golden/002.jpg", "golden/002.npy",
        "golden/golden.json", "model.onnx",
        "reports/evaluate.json", "reports/extract.json", "reports/flips.csv", "reports/parity.json",
        "reports/predictions.csv", "reports/provenance.json", "reports/report.html", "reports/split.json",
        "requirements.txt",
    ]  # fmt: skip
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "runtime").rglob("*.py")}
    assert {name for name in names if name.startswith("runtime/")} == {*code, "runtime/LICENSE"}
    unpack(tiny.bundle_zip, tmp_path / "unpacked")
    assert verify(tmp_path / "unpacked") == len(names) - 1
    assert selfcheck(tmp_path / "unpacked").passed
    readme = (tmp_path / "unpacked" / "README.md").read_text(encoding="utf-8")
    assert "It answered 7 of 8 clips or photos right. None was learned from." in readme
    assert "Of new ones like these, expect 47% to 99% right." in readme
    assert "That number is optimistic: one photograph per class." in readme
    assert "    蓝色\n" in readme
    assert "$" not in readme


def test_the_report_says_what_was_made(tiny: Project) -> None:
    report = bundle(tiny)
    assert report.bytes == tiny.bundle_zip.stat().st_size
    assert report.selfcheck.passed
    assert report.headline.startswith(f"bundled fp32 in {report.n_files} files, {report.bytes / 1e6:.1f} MB, ")
    assert report.headline.endswith("dist/bundle.zip")


def test_the_bundle_has_a_name_that_none_of_its_files_holds(tiny: Project, tmp_path: Path) -> None:
    report = bundle(tiny)
    unpack(tiny.bundle_zip, tmp_path / "unpacked")
    name = bundle_id(tmp_path / "unpacked")
    assert f", bundle_id {name}: dist/bundle.zip" in report.headline
    assert not [
        path
        for path in (tmp_path / "unpacked").rglob("*")
        if path.is_file() and str(name).encode() in path.read_bytes()
    ]
    (tiny.root / "reports" / "flips.csv").write_text("another report")
    renew(tiny)
    assert bundle(tiny).selfcheck.bundle_id != name


def test_entries_are_stored_without_dates_owners_or_modes(tiny: Project) -> None:
    bundle(tiny)
    with zipfile.ZipFile(tiny.bundle_zip) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr == 0o100644 << 16


def test_bundling_loads_no_torch(tiny: Project) -> None:
    program = "import sys; from pathlib import Path; from pipeline.base.project import Project\n"
    program += "from export.bundle.stage import bundle\n"
    program += "bundle(Project(Path(sys.argv[1]))); print('torch' in sys.modules, 'onnx' in sys.modules)"
    command = [sys.executable, "-c", program, str(tiny.root)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout == "False False\n"


def test_a_bad_verdict_leaves_no_bundle(tiny: Project) -> None:
    values = parity(tiny)
    values["passed"] = False
    values["variants"]["fp32"] |= {"verdict": "failed", "reasons": ["2 flips where torch was sure"]}
    write_json(tiny.parity_json, values)
    assert_refused(tiny, GateError, r"parity did not pass \(fp32: 2 flips where torch was sure\); nothing is bundled")


def test_a_refusal_exits_3(tiny: Project) -> None:
    write_json(tiny.parity_json, {**parity(tiny), "passed": False})
    with pytest.raises(GateError) as caught:
        bundle(tiny)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("passed", ["true", 1, None])
def test_only_true_is_a_yes(passed: object, tiny: Project) -> None:
    write_json(tiny.parity_json, {**parity(tiny), "passed": passed})
    assert_refused(tiny, GateError, "parity did not pass")


def test_a_perturbed_graph_leaves_no_bundle(tiny: Project) -> None:
    contract = Contract.read(tiny.contract_json)
    (tiny.onnx / "fp32.onnx").write_bytes(colour_graph(contract.metadata(), scale=10.1))
    assert_refused(tiny, GateError, "is not the graph that parity judged")


def test_a_graph_and_contract_that_parity_never_saw_leave_no_bundle(tiny: Project) -> None:
    contract = Contract.read(tiny.contract_json)
    graph = colour_graph(contract.metadata(), scale=10.1)
    (tiny.onnx / "fp32.onnx").write_bytes(graph)
    variant = dataclasses.replace(contract.variants[0], sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    write_json(tiny.contract_json, dataclasses.replace(contract, variants=(variant,)).to_json())
    assert_refused(tiny, GateError, "is not the graph that parity judged")


def test_a_contract_that_names_another_graph_leaves_no_bundle(tiny: Project) -> None:
    contract = Contract.read(tiny.contract_json)
    variant = dataclasses.replace(contract.variants[0], sha256="0" * 64)
    write_json(tiny.contract_json, dataclasses.replace(contract, variants=(variant,)).to_json())
    assert_refused(tiny, GateError, "is not the graph that the contract names")


def test_a_recommended_variant_that_was_not_judged_leaves_no_bundle(tiny: Project) -> None:
    write_json(tiny.parity_json, {"passed": True, "variants": {}})
    assert_refused(tiny, GateError, "no variant passed; nothing is bundled")


def test_a_bundle_that_fails_its_own_selfcheck_is_not_left(tiny: Project) -> None:
    path = tiny.golden / "golden.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["logits"]["fp32"][0][0] += 1
    write_json(path, values)
    renew(tiny)
    assert_refused(tiny, GateError, r"fails its own selfcheck \(fp32: logits differ by 1")


def test_golden_pictures_of_another_kind_are_found_by_the_selfcheck(tiny: Project) -> None:
    np.save(tiny.golden / "000.npy", np.zeros((2, 2), np.uint8))
    renew(tiny)
    assert_refused(tiny, GateError, r"fails its own selfcheck .*000\.npy")


def test_a_variant_that_failed_is_left_out(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", draft_contract("fp32", "int8", "fp16"))
    values = parity(project)
    values["variants"]["int8"]["verdict"] = "failed"
    write_json(project.parity_json, values)
    renew(project)
    assert bundle(project).variants == ("fp32", "fp16")
    unpack(project.bundle_zip, tmp_path / "unpacked")
    contract = Contract.read(tmp_path / "unpacked" / "contract.json")
    assert [(each.name, each.file) for each in contract.variants] == [
        ("fp32", "model.onnx"),
        ("fp16", "model_fp16.onnx"),
    ]
    assert not (tmp_path / "unpacked" / "model_int8.onnx").exists()


def test_model_onnx_is_the_recommended_variant(tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract("fp32", "int8"), recommended="int8")
    project = write_project(tmp_path / "project", contract)
    bundle(project)
    unpack(project.bundle_zip, tmp_path / "unpacked")
    bundled = Contract.read(tmp_path / "unpacked" / "contract.json")
    assert bundled.variant("int8").file == "model.onnx"
    assert bundled.variant("fp32").file == "model_fp32.onnx"
    assert bundled.interface_sha256() == contract.interface_sha256()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("reports/parity.json", "missing; run `pipe parity`"),
        ("reports/evaluate.json", "missing; run `pipe evaluate`"),
        ("reports/split.json", "missing; run `pipe split`"),
        ("reports/report.html", "missing; run `pipe report`"),
        ("models/onnx/fp32.onnx", "missing; run `pipe export`"),
        ("models/golden/001.npy", "missing; run `pipe parity`"),
        ("runtime/LICENSE", "missing; run `git checkout runtime/LICENSE`"),
    ],
)
def test_a_missing_part_leaves_no_bundle_and_is_named(missing: str, reason: str, tiny: Project) -> None:
    (tiny.root / missing).unlink()
    assert_refused(tiny, DataError, f"{missing}: {reason}")


def test_a_project_without_code_leaves_no_bundle(tiny: Project) -> None:
    shutil.rmtree(tiny.runtime)
    (tiny.root / "runtime").mkdir()  # without the folder, the project has the code of the installed toolchain
    assert_refused(tiny, DataError, "no code")


def test_a_missing_contract_leaves_no_bundle(tiny: Project) -> None:
    tiny.contract_json.unlink()
    assert_refused(tiny, ContractError, r"contract\.json: cannot be read")


@pytest.mark.parametrize(
    "content", ["[]", '{"passed": true}', '{"passed": true, "variants": [1]}', '{"variants": {"a": 1}}']
)
def test_a_verdict_that_parity_did_not_write_leaves_no_bundle(content: str, tiny: Project) -> None:
    tiny.parity_json.write_text(content)
    assert_refused(tiny, DataError, "run `pipe parity` again")


@pytest.mark.parametrize("path", ["evaluate_json", "parity_json"])
def test_the_number_of_another_network_leaves_no_bundle(path: str, tiny: Project) -> None:
    values = json.loads(getattr(tiny, path).read_text(encoding="utf-8"))
    write_json(getattr(tiny, path), {**values, "checkpoint_sha256": "d" * 64})
    assert_refused(tiny, GateError, r"evaluate\.json: judged another checkpoint than parity\.json")


@pytest.mark.parametrize("values", [[], {"n_frames": 1}])
def test_an_evaluation_that_names_no_checkpoint_leaves_no_bundle(values: object, tiny: Project) -> None:
    write_json(tiny.evaluate_json, values)
    assert_refused(tiny, DataError, "no checkpoint_sha256; run `pipe evaluate` again")


@pytest.mark.parametrize("values", [{"n_frames": 1}, {"estimate": "holdout"}])
def test_an_evaluation_that_does_not_say_how_it_judged_leaves_no_bundle(values: dict[str, Any], tiny: Project) -> None:
    write_json(tiny.evaluate_json, {**values, "checkpoint_sha256": parity(tiny)["checkpoint_sha256"]})
    assert_refused(tiny, DataError, "no estimate and optimistic, or no as_device in parity.json; run `dvc repro` again")


@pytest.mark.parametrize("answers", [None, {}, {"n_clips": 8, "right": 7, "refused": 0, "right_ci95": 0.5}])
def test_a_parity_without_the_answers_of_the_device_leaves_no_bundle(answers: object, tiny: Project) -> None:
    write_json(tiny.parity_json, parity(tiny) | {"as_device": answers})
    assert_refused(tiny, DataError, "no as_device in parity.json; run `dvc repro` again")
