"""Checkpoint to graphs and contract: `models/onnx/*.onnx`, `models/contract.json`, and what was tried on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.export.params import ExportParams
from export.export.reference_frames import Evidence, calibration_rows, gather, preprocessed
from export.export.search import Candidate, Trial, Workshop, chosen, golden_tolerance, judged, search
from export.export.torch_export import Attempt, attempts, core_graph, with_batch_of_one
from export.graphs.params import ParityParams
from export.graphs.preprocess_graph import join, preprocess_graph, seal
from pipeline.base.errors import GateError
from pipeline.base.files import replacing_folder, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.inference import forbid_tf32
from pipeline.network.preprocess import Preprocess
from runtime.contract import Contract, Geometry, Variant

FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    variants: tuple[Variant, ...]
    recommended: str
    left_out: tuple[str, ...]  # precisions of which nothing passed

    @property
    def headline(self) -> str:
        """One line: the variants and their sizes, and which of them is recommended."""
        said = ", ".join(f"{variant.name} ({variant.bytes / 1e6:.1f} MB)" for variant in self.variants)
        without = f"; no {' and no '.join(self.left_out)} passed" if self.left_out else ""
        return f"exported {said}, recommended {self.recommended}{without}; models/onnx/, reports/export.json"


def export(params: ExportParams, gates: ParityParams, project: Project) -> ExportReport:
    """Write the graphs of the chosen variants, their two parts, the contract, and what was tried.

    Raises:
        DataError: the checkpoint, the split or a frame is missing or broken.
        GateError: no exporter gives a graph that computes what torch computes; `reports/export.json` says how not.
    """
    rows = read_split_without_leaks(project)
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    calibration = calibration_rows(rows, params.calibration_frames)
    # Without a validation side the frames of calibration have to do; parity judges on test frames in any case.
    choice = [row for row in rows if row.split == "val"] or calibration
    record = Record(params.search, choice[0].split, len(choice), _counted(calibration))
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        evidence = gather(choice, checkpoint, project, Path(folder) / "choice.npy")
        attempt, fp32 = _agreeing_core(checkpoint, params, gates, evidence, record, project)
        inputs_nchw = preprocessed(calibration, checkpoint, project, Path(folder) / "calibration.npy")
        trials = search(fp32, Workshop(_made(fp32), inputs_nchw), params.search, evidence, gates)
        kept = chosen(trials)
        tolerances = [golden_tolerance(trial, evidence, params.golden_tolerance) for trial in kept]
    draft = _draft(checkpoint, params, attempt.opset)
    variants = _write_graphs(kept, tolerances, checkpoint.preprocess, draft, project)
    contract = dataclasses.replace(draft, variants=variants, recommended=variants[0].name)
    write_json(project.contract_json, contract.to_json())
    write_json(project.export_json, record.to_json(trials, kept))
    tried = dict.fromkeys(trial.precision for trial in trials)
    left_out = tuple(each for each in tried if each not in {trial.precision for trial in kept})
    return ExportReport(variants, contract.recommended, left_out)


@dataclass
class Record:
    """What `reports/export.json` says of the way to the variants."""

    search: str
    chosen_on: str  # the side whose frames the choice was made on
    n_frames: int
    calibration: dict[str, Any]
    exporters: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def to_json(self, trials: Sequence[Trial], kept: Sequence[Trial]) -> dict[str, Any]:
        """The report; what was kept stands in the order of preference."""
        said: dict[str, Any] = {"search": self.search, "recommended": kept[0].precision if kept else None}
        said |= {"chosen_on": self.chosen_on, "n_frames": self.n_frames, "calibration": self.calibration}
        listed = [trial.summary(any(trial is other for other in kept)) for trial in trials]
        return {**said, "exporters": self.exporters, "trials": listed}


def _agreeing_core(
    checkpoint: Checkpoint,
    params: ExportParams,
    gates: ParityParams,
    evidence: Evidence,
    record: Record,
    project: Project,
) -> tuple[Attempt, Trial]:
    """Export in one way after the other until a graph agrees with torch."""
    network = checkpoint.network()
    for attempt in attempts(params.opset):

        def make(attempt: Attempt = attempt) -> tuple[onnx.ModelProto, Sequence[str]]:
            return core_graph(network, checkpoint.preprocess.size, attempt), ()

        trial = judged(Candidate("fp32", "fp32", make), evidence, gates)
        verdict = {"verdict": trial.numbers["verdict"], "reasons": trial.numbers["reasons"]}
        record.exporters.append({**dataclasses.asdict(attempt), **verdict})
        if not trial.failed:
            return attempt, trial
    write_json(project.export_json, record.to_json([], []))
    said = "; ".join(
        f"{each['exporter']}, opset {each['opset']}, {each['batch']} batch: {', '.join(each['reasons'])}"
        for each in record.exporters
    )
    raise GateError(f"{project.checkpoint}: no exporter gives a graph that computes what torch does ({said})")


def _made(trial: Trial) -> onnx.ModelProto:
    if trial.core is None:
        raise RuntimeError(f"{trial.name} was not made")
    return trial.core


def _counted(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "n_frames": len(rows),
        "n_clips": len({row.group for row in rows}),
        "by_class": dict(sorted(Counter(row.label for row in rows).items())),
    }


def _write_graphs(
    kept: Sequence[Trial], tolerances: Sequence[float], preprocess: Preprocess, draft: Contract, project: Project
) -> tuple[Variant, ...]:
    """Write every variant with its preprocessing, and the float32 parts for compilers; the variants in order."""
    front = preprocess_graph(preprocess, draft.opset)
    fp32 = _made(next(trial for trial in kept if trial.precision == "fp32"))
    sealed = {
        "preprocess.onnx": seal(front, draft),
        "core.onnx": seal(fp32, draft),
        "core_batch1.onnx": seal(with_batch_of_one(fp32), draft),
    }
    variants = []
    for trial, tolerance in zip(kept, tolerances, strict=True):
        content = sealed[FILES[trial.precision]] = seal(join(front, _made(trial)), draft)
        variants.append(_variant(trial.precision, content, tolerance))
    with replacing_folder(project.onnx) as folder:
        for name, content in sealed.items():
            (folder / name).write_bytes(content)
    return tuple(variants)


def _draft(checkpoint: Checkpoint, params: ExportParams, opset: int) -> Contract:
    """The contract but for its variants, which cannot be hashed before the graphs carry the contract's own mark."""
    geometry = checkpoint.preprocess
    return Contract(
        classes=checkpoint.classes,
        geometry=Geometry(crop=geometry.crop, center_fraction=geometry.center_fraction, size=geometry.size),
        mean=geometry.mean,
        std=geometry.std,
        opset=opset,
        temperature=checkpoint.temperature,
        temperature_reason=checkpoint.temperature_reason,
        unknown_threshold=checkpoint.unknown_threshold,
        unknown_threshold_reason=checkpoint.unknown_threshold_reason,
        max_pixels=round(params.max_megapixels * 1e6),
        max_aspect=params.max_aspect,
        providers=params.providers,
        allow_fallback=params.allow_fallback,
        variants=(_variant("fp32", b" ", params.golden_tolerance),),
        recommended="fp32",
    )


def _variant(precision: str, content: bytes, tolerance: float) -> Variant:
    return Variant(
        name=precision,
        file=FILES[precision],
        sha256=hashlib.sha256(content).hexdigest(),
        precision=precision,
        bytes=len(content),
        golden_tolerance=tolerance,
    )
