"""Checkpoint to graphs and contract: `models/onnx/*.onnx` and `models/contract.json`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from export.graph import core_graph, join, preprocess_graph, seal
from pipeline.files import Project, replacing_folder, write_json
from pipeline.network import NOT_FITTED, Checkpoint, read_checkpoint
from pipeline.params import ExportParams
from runtime.contract import Contract, Geometry, Variant


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    variants: tuple[Variant, ...]

    @property
    def headline(self) -> str:
        """One line: the variants and their sizes."""
        said = ", ".join(f"{variant.name} ({variant.bytes / 1e6:.1f} MB)" for variant in self.variants)
        return f"exported {said}; models/onnx/, models/contract.json"


def export(params: ExportParams, project: Project) -> ExportReport:
    """Write `preprocess.onnx`, `core.onnx`, the two joined as `model.onnx`, and the contract.

    Raises:
        DataError: the checkpoint is missing or broken.
    """
    checkpoint = read_checkpoint(project.checkpoint)
    preprocess = preprocess_graph(checkpoint.preprocess, params.opset)
    core = core_graph(checkpoint.network(), checkpoint.preprocess.size, params.opset)
    draft = _contract(checkpoint, params)
    sealed = {
        "preprocess.onnx": seal(preprocess, draft),
        "core.onnx": seal(core, draft),
        "model.onnx": seal(join(preprocess, core), draft),
    }
    with replacing_folder(project.onnx) as folder:
        for name, content in sealed.items():
            (folder / name).write_bytes(content)
    contract = dataclasses.replace(draft, variants=(_fp32(sealed["model.onnx"], params),))
    write_json(project.contract_json, contract.to_json())
    return ExportReport(contract.variants)


def _contract(checkpoint: Checkpoint, params: ExportParams) -> Contract:
    """The contract but for its variants, which cannot be hashed before the graphs carry the contract's own mark."""
    geometry = checkpoint.preprocess
    return Contract(
        classes=checkpoint.classes,
        geometry=Geometry(crop=geometry.crop, center_fraction=geometry.center_fraction, size=geometry.size),
        mean=geometry.mean,
        std=geometry.std,
        opset=params.opset,
        temperature=checkpoint.temperature,
        temperature_reason=NOT_FITTED if checkpoint.temperature is None else None,
        unknown_threshold=checkpoint.unknown_threshold,
        unknown_threshold_reason=NOT_FITTED if checkpoint.unknown_threshold is None else None,
        max_pixels=round(params.max_megapixels * 1e6),
        max_aspect=params.max_aspect,
        providers=params.providers,
        allow_fallback=params.allow_fallback,
        variants=(_fp32(b" ", params),),
        recommended="fp32",
    )


def _fp32(content: bytes, params: ExportParams) -> Variant:
    return Variant(
        name="fp32",
        file="model.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        precision="fp32",
        bytes=len(content),
        golden_tolerance=params.golden_tolerance,
    )
