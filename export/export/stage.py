"""Turn the checkpoint into graphs and the contract: `models/onnx/`, `models/contract.json`, `reports/export.json`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.export.params import ExportParams
from export.export.quantize import NO_HEAD
from export.export.record import CalibrationSet, ExporterTrial, ExportRecord
from export.export.reference_frames import ReferenceFrames, calibration_rows, frames_of_folds, reference_frames
from export.export.search import (
    Candidate,
    CandidateFactory,
    Trial,
    best_of_each_precision,
    golden_tolerance,
    judge_nearest,
    search,
    try_candidate,
)
from export.export.torch_export import Attempt, attempts, core_graph, with_batch_of_one
from export.graphs.params import ParityParams
from export.graphs.preprocess_graph import join, preprocess_graph, seal
from export.graphs.thresholds import thresholds_of_graph
from pipeline.base.errors import GateError
from pipeline.base.files import exclusive, replacing_folder, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, files_below, hashes_of, write_report
from pipeline.base.storage.scratch import library_temporaries_in, scratch_folder
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.checkpoint import Checkpoint, read_checkpoint
from pipeline.network.preprocess import Preprocess
from pipeline.network.torch_settings import set_up_torch
from runtime.answers import KNOWN_SCORE
from runtime.contract import Contract, Geometry, Variant
from runtime.system.processor import processor_name

MOST_JUDGED = 512  # frames of all folds: parity judges on every frame
FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    variants: tuple[Variant, ...]
    recommended: str
    left_out: tuple[str, ...]  # precisions of which no candidate passed

    @property
    def headline(self) -> str:
        """One line: the variants and their sizes, and which of them is recommended."""
        sizes = ", ".join(f"{variant.name} ({variant.bytes / 1e6:.1f} MB)" for variant in self.variants)
        without = f"; no {' and no '.join(self.left_out)} passed" if self.left_out else ""
        return f"exported {sizes}, recommended {self.recommended}{without}; models/onnx/, reports/export.json"


@exclusive("pipe export")
def export(params: ExportParams, gates: ParityParams, project: Project) -> ExportReport:
    """Write the graphs of the chosen variants, their parts, the contract, and the record of what was tried.

    Args:
        params: the section `export` of `params.yaml`.
        gates: the section `parity`: by its gates the chosen variants are judged.
        project: whose checkpoint, split and frames are read.

    Raises:
        DataError: the checkpoint, the split or a frame is missing or broken.
        GateError: no exporter gives a graph that computes what torch computes. `reports/export.json` has the reasons.
    """
    read = (project.checkpoint, project.fold_heads, project.split_csv, project.split_json, project.out_of_fold_csv())
    made_from = hashes_of(read, project)
    rows = read_split_without_leaks(project)
    set_up_torch()
    checkpoint = read_checkpoint(project.checkpoint)
    to_calibrate = calibration_rows(rows, params.calibration_frames)
    with scratch_folder("export") as folder, library_temporaries_in(folder):
        calibration = reference_frames(to_calibrate, checkpoint, project, folder / "calibration.npy")
        frames = _frames_to_judge(rows, checkpoint, calibration, project, folder / "judge.npy")
        by_folds = frames.folds is not None
        record = ExportRecord(
            params.search,
            "folds" if by_folds else frames.rows[0].split,
            len(frames.rows),
            CalibrationSet.of(to_calibrate),
        )
        whole = calibration if by_folds else frames  # frames that the network itself answers for
        record = dataclasses.replace(record, exporters=_try_exporters(checkpoint, params.opset, gates, whole))
        best = _first_that_agrees(record, made_from, project)
        head = frames.folds.shipped if frames.folds is not None else NO_HEAD
        factory = CandidateFactory(_core_of(best.trial), calibration.inputs_nchw, head)
        score = checkpoint.known_score if checkpoint.calibration.unknown else None
        trials = judge_nearest(search(best.trial, factory, params.search, calibration), score, frames, gates)
        kept = best_of_each_precision(trials)
        thresholds = [_thresholds_of(trial, frames, checkpoint) for trial in kept]
        tolerances = [golden_tolerance(trial, whole, params.golden_tolerance) for trial in kept]
    draft = _draft(checkpoint, params, best.attempt.opset)
    variants = _write_graphs(kept, tolerances, thresholds, checkpoint.preprocess, draft, project)
    contract = dataclasses.replace(draft, variants=variants, recommended=variants[0].name)
    write_json(project.contract_json, contract.to_json())
    record = dataclasses.replace(record, trials=trials, kept=kept)
    wrote = hashes_of((project.contract_json, *files_below(project.onnx)), project)
    write_report(project.export_json, record.to_json(), made_from=made_from, wrote=wrote)
    tried = dict.fromkeys(trial.precision for trial in trials)
    left_out = tuple(precision for precision in tried if precision not in {trial.precision for trial in kept})
    return ExportReport(variants, contract.recommended, left_out)


def _frames_to_judge(
    rows: Sequence[Row], checkpoint: Checkpoint, calibration: ReferenceFrames, project: Project, path: Path
) -> ReferenceFrames:
    """The frames that judge the chosen graphs: of all folds, or of the validation side.

    Without a validation side the calibration frames decide. In any case parity judges on other frames.
    """
    if checkpoint.estimate == "folds":
        return frames_of_folds(rows, checkpoint, project, path, MOST_JUDGED)
    held_out = [row for row in rows if row.split == "val" and row.kept]
    return reference_frames(held_out, checkpoint, project, path) if held_out else calibration


def _try_exporters(
    checkpoint: Checkpoint, opset: int, gates: ParityParams, frames: ReferenceFrames
) -> list[ExporterTrial]:
    """Export in one way after the other until a graph agrees with torch; return every attempt."""
    network = checkpoint.network()
    tried: list[ExporterTrial] = []
    for attempt in attempts(opset):

        def make(attempt: Attempt = attempt) -> tuple[onnx.ModelProto, Sequence[str]]:
            return core_graph(network, checkpoint.preprocess.size, attempt), ()

        tried.append(ExporterTrial(attempt, try_candidate(Candidate("fp32", "fp32", make), frames, gates)))
        if not tried[-1].trial.failed:
            break
    return tried


def _first_that_agrees(record: ExportRecord, made_from: Hashes, project: Project) -> ExporterTrial:
    """Return the exporter's graph that agrees with torch; without one, write the record and stop."""
    if not record.exporters[-1].trial.failed:
        return record.exporters[-1]
    write_report(project.export_json, record.to_json(), made_from=made_from, wrote={})
    attempts_in_words = "; ".join(map(str, record.exporters))
    raise GateError(
        f"{project.checkpoint}: no exporter gives a graph that computes what torch does ({attempts_in_words})"
    )


def _thresholds_of(trial: Trial, frames: ReferenceFrames, checkpoint: Checkpoint) -> UnknownThresholds | None:
    """The thresholds of a graph that was judged on some frames; None where the checkpoint has none."""
    unknown = checkpoint.calibration.unknown
    if unknown is None or trial.precision == "fp32" or trial.answers is None:
        return unknown
    return thresholds_of_graph(unknown, frames.torch.scores, trial.answers.scores)


def _core_of(trial: Trial) -> onnx.ModelProto:
    if trial.core is None:
        raise RuntimeError(f"{trial.name} was not made")
    return trial.core


def _write_graphs(
    kept: Sequence[Trial],
    tolerances: Sequence[float],
    thresholds: Sequence[UnknownThresholds | None],
    preprocess: Preprocess,
    draft: Contract,
    project: Project,
) -> tuple[Variant, ...]:
    """Write every variant with its preprocessing, and the float32 parts for compilers; return the variants in order."""
    front = preprocess_graph(preprocess, draft.opset)
    fp32 = _core_of(next(trial for trial in kept if trial.precision == "fp32"))
    sealed = {
        "preprocess.onnx": seal(front, draft),
        "core.onnx": seal(fp32, draft),
        "core_batch1.onnx": seal(with_batch_of_one(fp32), draft),
    }
    variants = []
    for trial, tolerance, unknown in zip(kept, tolerances, thresholds, strict=True):
        content = sealed[FILES[trial.precision]] = seal(join(front, _core_of(trial)), draft)
        variants.append(_variant(trial.precision, content, tolerance, unknown))
    with replacing_folder(project.onnx) as folder:
        for name, content in sealed.items():
            (folder / name).write_bytes(content)
    return tuple(variants)


def _draft(checkpoint: Checkpoint, params: ExportParams, opset: int) -> Contract:
    """Return the contract with a placeholder for its variants.

    The graphs carry the hash of the contract without its variants, so the graphs can be hashed only afterwards.
    """
    geometry, unknown = checkpoint.preprocess, checkpoint.calibration.unknown
    return Contract(
        classes=checkpoint.classes,
        geometry=Geometry(crop=geometry.crop, center_fraction=geometry.center_fraction, size=geometry.size),
        mean=geometry.mean,
        std=geometry.std,
        opset=opset,
        temperature=checkpoint.calibration.temperature,
        temperature_reason=checkpoint.calibration.temperature_reason,
        unknown_score=None if unknown is None else KNOWN_SCORE,
        unknown_score_reason=checkpoint.calibration.unknown_reason,
        unknown_false_alarms=None if unknown is None else unknown.false_alarms,
        max_pixels=round(params.max_megapixels * 1e6),
        max_aspect=params.max_aspect,
        sample_bits=checkpoint.sample_bits,
        providers=params.providers,
        allow_fallback=params.allow_fallback,
        variants=(_variant("fp32", b" ", params.golden_tolerance, unknown),),
        recommended="fp32",
        timed_on=processor_name(),
    )


def _variant(precision: str, content: bytes, tolerance: float, unknown: UnknownThresholds | None) -> Variant:
    return Variant(
        name=precision,
        file=FILES[precision],
        sha256=hashlib.sha256(content).hexdigest(),
        precision=precision,
        bytes=len(content),
        golden_tolerance=tolerance,
        unknown_threshold=None if unknown is None else unknown.frame,
        unknown_threshold_clip=None if unknown is None else unknown.clip,
    )
