"""A project that is ready for `bundle`, made in milliseconds: its graph names the colour that dominates a picture."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pipeline.base.device_code import device_code
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.report_digest import DIGEST, MADE_FROM, WROTE, files_below, hashes_of, seal_page, write_report
from runtime.answers import KNOWN_SCORE
from runtime.archive import SUMS
from runtime.classifier import Classifier
from runtime.contract import Contract, Geometry, Variant
from runtime.images import read_image

ROOT = Path(__file__).parents[2]
CLASSES = ("red", "green", "蓝色")
CHECKPOINT = b"not a network: bundle reads its hash alone"
CHECKPOINT_SHA256 = hashlib.sha256(CHECKPOINT).hexdigest()


def draft_contract(*names: str) -> Contract:
    """A contract whose variants (fp32 unless named) have no hash yet."""
    variants = tuple(
        Variant(
            name=name,
            file=f"{name}.onnx",
            sha256="0" * 64,
            precision=name,
            bytes=1,
            golden_tolerance=0.001,
            unknown_threshold=None,
            unknown_threshold_clip=None,
        )
        for name in names or ("fp32",)
    )
    return Contract(
        classes=CLASSES,
        geometry=Geometry(crop="squash", center_fraction=1.0, size=8),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        opset=18,
        temperature=None,
        temperature_reason="not fitted",
        unknown_score=None,
        unknown_score_reason="not fitted",
        unknown_false_alarms=None,
        max_pixels=10_000,
        max_aspect=10.0,
        sample_bits=None,
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        allow_fallback=True,
        variants=variants,
        recommended=variants[0].name,
        timed_on="Test Processor 1",
    )


def with_thresholds(
    contract: Contract, frame: float, clip: float, score: Literal["known_score", "largest_logit"] = "largest_logit"
) -> Contract:
    """The contract with these thresholds of unknown material for every variant."""
    variants = tuple(
        dataclasses.replace(variant, unknown_threshold=frame, unknown_threshold_clip=clip)
        for variant in contract.variants
    )
    return dataclasses.replace(
        contract,
        variants=variants,
        unknown_score=score,
        unknown_score_reason=None,
        unknown_false_alarms=0.05,
    )


def colour_graph(metadata: dict[str, str], scale: float = 10.0) -> bytes:
    """`image` uint8 (batch, height, width, 3) to `logits`: each channel's mean of pixels in [0, 1], times `scale`."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(np.eye(3, dtype=np.float32) * np.float32(scale / 255), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content


def scored_graph(metadata: dict[str, str], shift: float = 0.0) -> bytes:
    """The graph of colours with a known score: what the largest logit is below 10, plus `shift`."""
    model = onnx.load_model_from_string(colour_graph(metadata))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["logits", "last"], ["largest"], keepdims=0),
            helper.make_node("Sub", ["ten", "largest"], ["known_score"]),
        ]
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], np.int64), "last"),
            numpy_helper.from_array(np.float32(10 + shift), "ten"),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("known_score", TensorProto.FLOAT, ["batch"]))
    content: bytes = model.SerializeToString()
    return content


def write_models(
    contract_path: Path, graphs: Path, contract: Contract, make: Callable[[dict[str, str]], bytes] = colour_graph
) -> Contract:
    """Write a graph (of colours) for every variant, and the contract with their hashes; return that contract."""
    graphs.mkdir(parents=True, exist_ok=True)
    variants = []
    for variant in contract.variants:
        content = make(contract.metadata())
        (graphs / variant.file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        variants.append(dataclasses.replace(variant, sha256=digest, bytes=len(content)))
    written = dataclasses.replace(contract, variants=tuple(variants))
    contract_path.write_text(json.dumps(written.to_json(), ensure_ascii=False), encoding="utf-8")
    return written


def picture(colour: int, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Noise with more of one channel: uint8 (height, width, 3)."""
    pixels_hwc = np.random.default_rng(colour).integers(0, 100, (height, width, 3), np.uint8)
    pixels_hwc[..., colour] += 100
    return pixels_hwc


def write_colour_clip(path: Path, colours: list[int], n_dark: int = 0) -> Path:
    """A clip that shows each colour for a second, the first `n_dark` of them in the dark, at 5 frames per second."""
    pictures = [picture(colour, 32, 32) // (3 if second < n_dark else 1) for second, colour in enumerate(colours)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame_hwc in np.repeat(np.stack(pictures), 5, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_hwc, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_project(
    root: Path, contract: Contract | None = None, make: Callable[[dict[str, str]], bytes] = colour_graph
) -> Project:
    """Write everything that `bundle` reads, as the earlier stages would write it."""
    project = Project(root)
    project.onnx.mkdir(parents=True)
    written = write_models(project.contract_json, project.onnx, contract or draft_contract(), make)
    shutil.copytree(ROOT / "runtime", project.root / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    project.checkpoint.write_bytes(CHECKPOINT)
    write_golden(project, written)
    _write_reports(project, written)
    return project


def _write_reports(project: Project, contract: Contract) -> None:
    for path in (
        project.frames_csv, project.augmented_csv, project.groups_csv, project.split_csv,
        project.near_duplicates_png, project.train_reports / "metrics.json", project.predictions_csv,
        project.plots / "roc.png", project.flips_csv, project.flips_png,
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.name} of a tiny project\n", encoding="utf-8", newline="\n")
    verdicts = {
        variant.name: {"verdict": "passed", "graph_sha256": variant.sha256, "reasons": []}
        for variant in contract.variants
    }
    evaluation: dict[str, object] = {"n_frames": 8, "top1": 0.875, "optimistic": "one photograph per class"}
    evaluation |= {"estimate": "holdout"}
    answers = {"n_clips": 8, "right": 7, "wrong": 1, "refused": 0, "right_ci95": [0.47, 0.99]}
    evaluation |= {"classes": list(contract.classes), "checkpoint_sha256": CHECKPOINT_SHA256}
    write_json(project.extract_json, {"n_frames": 8})
    write_json(project.split_json, {"protocol": "grouped"})
    write_json(provenance_json(project), {"git": None, "learned_from": ["trained"]})
    write_json(project.evaluate_json, evaluation)
    write_json(project.export_json, {"search": "quick"})
    judged = {"passed": True, "as_device": answers, "variants": verdicts, "checkpoint_sha256": CHECKPOINT_SHA256}
    write_json(project.parity_json, judged)
    renew(project)


def provenance_json(project: Project) -> Path:
    """The report of the training that carries its digest."""
    return project.train_reports / "provenance.json"


def renew(project: Project) -> None:
    """Give every report the digest and hashes that its stage would write now; its own values stay."""
    for path, (made_from, wrote) in _around(project).items():
        values = read_json(path)
        own = {key: value for key, value in values.items() if key not in (DIGEST, MADE_FROM, WROTE)}
        write_report(path, own, made_from=hashes_of(made_from, project), wrote=hashes_of(wrote, project))
    renew_page(project)


def renew_page(project: Project) -> None:
    """Write the page for the reports as they are now."""
    shown = (*_around(project), project.contract_json, project.plots / "roc.png")
    page = "<html><head></head><body>the page of a tiny project</body></html>\n"
    project.report_html.write_text(seal_page(page, hashes_of(shown, project)), encoding="utf-8", newline="\n")


def _around(project: Project) -> dict[Path, tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """What each report is made from and what its stage writes beside it, in the order of the chain."""
    graphs = (project.contract_json, *files_below(project.onnx))
    trained = (project.checkpoint, project.split_csv)
    return {
        project.extract_json: ((), (project.frames_csv,)),
        project.split_json: (
            (project.frames_csv, project.augmented_csv, project.groups_csv),
            (project.split_csv, project.near_duplicates_png),
        ),
        provenance_json(project): (
            (project.split_csv,),
            (project.checkpoint, project.train_reports / "metrics.json"),
        ),
        project.evaluate_json: (
            (*trained, project.split_json),
            (project.predictions_csv, *files_below(project.plots)),
        ),
        project.export_json: (trained, graphs),
        project.parity_json: (
            (*trained, *graphs, *device_code(project)),
            (project.flips_csv, project.flips_png, *files_below(project.golden)),
        ),
    }


def write_golden(project: Project, contract: Contract) -> None:
    """Three JPEGs, one of each class, their pixels and the variants' logits."""
    project.golden.mkdir()
    samples = []
    logits: dict[str, list[list[float]]] = {variant.name: [] for variant in contract.variants}
    scores: dict[str, list[float]] = {}
    for number, label in enumerate(CLASSES):
        image = project.golden / f"{number:03d}.jpg"
        Image.fromarray(picture(number)).save(image, quality=95)
        pixels_hwc = read_image(image, max_pixels=10_000)
        np.save(image.with_suffix(".npy"), pixels_hwc)
        height, width, _ = pixels_hwc.shape
        samples.append(
            {
                "name": image.stem,
                "label": label,
                "image": image.name,
                "pixels": f"{image.stem}.npy",
                "height": height,
                "width": width,
            }
        )
        for name, rows in logits.items():
            classifier = Classifier(project.contract_json, project.onnx, name)
            answers = classifier.answers(pixels_hwc[np.newaxis])
            rows.append(answers.logits[0].tolist())
            if contract.unknown_score == KNOWN_SCORE:
                scores.setdefault(name, []).append(float(answers.scores[0]))
    golden = {"samples": samples, "logits": logits | {"torch": logits["fp32"]}, "scores": scores}
    write_json(project.golden / "golden.json", golden)


def write_json(path: Path, value: object) -> None:
    """Write JSON, without the care that a stage takes."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def rewrite_sums(folder: Path) -> None:
    """Write `SHA256SUMS` anew for the files of an unpacked bundle, as an attacker would."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS and "__pycache__" not in path.parts
    )
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def break_logits(folder: Path) -> None:
    """Let the recommended graph of an unpacked bundle give NaN, with the right hash in its contract."""
    contract = Contract.read(folder / "contract.json")
    variant = contract.variant(contract.recommended)
    graph = colour_graph(contract.metadata(), scale=float("nan"))
    (folder / variant.file).write_bytes(graph)
    broken = dataclasses.replace(variant, sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    variants = tuple(broken if each.name == variant.name else each for each in contract.variants)
    write_json(folder / "contract.json", dataclasses.replace(contract, variants=variants).to_json())
    rewrite_sums(folder)
