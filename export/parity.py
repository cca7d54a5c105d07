"""Compare the graph with torch on every held-out frame, from the same stored pixels, and pick the golden frames.

Writes `reports/parity.json`, `reports/flips.csv` and `models/golden/`, whatever the verdict is: bundle refuses, not we.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import manifest
from pipeline.data import forbid_tf32, read_frame
from pipeline.errors import DataError
from pipeline.files import Project, replacing_file, replacing_folder, write_json
from pipeline.leakage import read_split_without_leaks
from pipeline.manifest import Row
from pipeline.network import Checkpoint, read_checkpoint
from pipeline.params import ParityParams
from pipeline.progress import track
from runtime.classifier import Classifier
from runtime.contract import Variant
from runtime.images import read_image

FRAMES_AT_ONCE = 8

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class ParityReport:
    """The verdict on every variant."""

    passed: bool
    variants: dict[str, dict[str, Any]]

    @property
    def headline(self) -> str:
        """One line: the verdict, and for each variant the flips and the largest difference."""
        said = "; ".join(
            f"{name}: {numbers['flips']} flips on {numbers['n_samples']} frames, largest logit difference "
            f"{numbers['max_abs_logit_difference']:.2e} of a range of {numbers['logit_range']:.2f}"
            + (f" ({', '.join(numbers['reasons'])})" if numbers["reasons"] else "")
            for name, numbers in self.variants.items()
        )
        return f"parity {'passed' if self.passed else 'FAILED'}: {said}; reports/parity.json"


@dataclass(frozen=True)
class Comparison:
    """Both answers on the same frames, in the order of `rows`."""

    rows: Sequence[Row]
    truth: NDArray[np.int64]  # (n,) class numbers
    torch_logits: Logits  # (n, classes)
    graph_logits: Logits  # (n, classes)

    @property
    def logit_range(self) -> float:
        """Largest minus smallest logit that torch gave: the scale on which differences are judged."""
        return float(self.torch_logits.max() - self.torch_logits.min())

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """(n,) where the two answer with different classes."""
        flipped: NDArray[np.bool_] = self.torch_logits.argmax(axis=1) != self.graph_logits.argmax(axis=1)
        return flipped


def parity(params: ParityParams, project: Project) -> ParityReport:
    """Judge every variant of the contract.

    Raises:
        DataError: no held-out frame, or a graph, the contract or the checkpoint is missing or broken.
    """
    rows = read_split_without_leaks(project)
    held_out = [row for row in rows if row.split == "test"]
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    classifiers = _classifiers(project)
    first = next(iter(classifiers.values()))
    if first.contract.classes != checkpoint.classes:
        raise DataError(f"{project.contract_json}: its classes are not the checkpoint's; run `pipe export` again")
    torch_logits, graph_logits = _answers(held_out, checkpoint, classifiers, project)
    truth = np.array([checkpoint.classes.index(row.label) for row in held_out])
    comparisons = {name: Comparison(held_out, truth, torch_logits, logits) for name, logits in graph_logits.items()}
    judged = {variant.name: judge(comparisons[variant.name], params, variant) for variant in first.contract.variants}
    report = ParityReport(all(numbers["verdict"] == "passed" for numbers in judged.values()), judged)
    _write_golden(held_out, params, checkpoint, classifiers, project)
    _write_flips(comparisons, checkpoint.classes, project)
    write_json(project.parity_json, {"passed": report.passed, "variants": judged})
    return report


def _classifiers(project: Project) -> dict[str, Classifier]:
    """One per variant: what runs on the device, on the project's own graphs."""
    recommended = Classifier(project.contract_json, project.onnx)
    names = [variant.name for variant in recommended.contract.variants]
    return {name: Classifier(project.contract_json, project.onnx, variant=name) for name in names}


@torch.inference_mode()
def _answers(
    rows: Sequence[Row], checkpoint: Checkpoint, classifiers: dict[str, Classifier], project: Project
) -> tuple[Logits, dict[str, Logits]]:
    """Torch's logits (n, classes) and each variant's, frame by frame from the same pixels."""
    network = checkpoint.network()
    from_torch: list[Logits] = []
    from_graphs: dict[str, list[Logits]] = {name: [] for name in classifiers}
    for frames_nhwc in _frames_of_equal_size(track(rows, "parity", len(rows)), project):
        input_nchw = checkpoint.preprocess(torch.from_numpy(frames_nhwc))
        from_torch.append(network(input_nchw).numpy())
        for name, classifier in classifiers.items():
            from_graphs[name].append(classifier.logits(frames_nhwc))
    if not from_torch:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    return np.concatenate(from_torch), {name: np.concatenate(parts) for name, parts in from_graphs.items()}


def _frames_of_equal_size(rows: Iterable[Row], project: Project) -> Iterator[NDArray[np.uint8]]:
    """Consecutive frames of equal size as batches (batch, height, width, 3), so that the batch axis is tried too."""
    for _, same_size in itertools.groupby(rows, key=lambda row: (row.height, row.width)):
        while chunk := list(itertools.islice(same_size, FRAMES_AT_ONCE)):
            yield np.stack([read_frame(project, row) for row in chunk])


def judge(comparison: Comparison, params: ParityParams, variant: Variant) -> dict[str, Any]:
    """The numbers of `reports/parity.json` for one variant, its verdict, and the reasons for a bad one."""
    if not (np.isfinite(comparison.torch_logits).all() and np.isfinite(comparison.graph_logits).all()):
        raise DataError(f"{variant.file}: a logit is not a finite number; nothing can be compared; train again")
    difference = float(np.abs(comparison.torch_logits - comparison.graph_logits).max())
    margins = _margins(comparison.torch_logits)
    outside = int((comparison.flipped & (margins > params.flip_margin * comparison.logit_range)).sum())
    right_in_torch = comparison.torch_logits.argmax(axis=1) == comparison.truth
    right_in_graph = comparison.graph_logits.argmax(axis=1) == comparison.truth
    reasons = []
    allowed = params.max_logit_difference * comparison.logit_range
    if difference > allowed:
        reasons.append(f"largest logit difference {difference:.3g}; allowed {allowed:.3g}")
    if outside:
        reasons.append(f"{outside} flips where torch was sure; allowed 0")
    return {
        "n_samples": len(comparison.rows),
        "max_abs_logit_difference": difference,
        "logit_range": comparison.logit_range,
        "top1_agreement": float(1 - comparison.flipped.mean()),
        "flips": int(comparison.flipped.sum()),
        "flips_outside_margin": outside,
        "top1": float(right_in_graph.mean()),
        "top1_drop": float(right_in_torch.mean() - right_in_graph.mean()),
        "worst_class_drop": max(
            float(right_in_torch[comparison.truth == number].mean() - right_in_graph[comparison.truth == number].mean())
            for number in np.unique(comparison.truth)
        ),
        "graph_sha256": variant.sha256,
        "verdict": "failed" if reasons else "passed",
        "reasons": reasons,
    }


def _margins(logits: Logits) -> Logits:
    """(n,) by how much the best class leads the second."""
    ordered = np.sort(logits, axis=1)
    margins: Logits = ordered[:, -1] - ordered[:, -2]
    return margins


def _write_golden(
    rows: Sequence[Row],
    params: ParityParams,
    checkpoint: Checkpoint,
    classifiers: dict[str, Classifier],
    project: Project,
) -> None:
    """Write frames for the device's selfcheck: images, raw pixels, and the logits of torch and of every variant."""
    network = checkpoint.network()
    logits: dict[str, list[list[float]]] = {"torch": [], **{name: [] for name in classifiers}}
    samples = []
    with replacing_folder(project.golden) as folder:
        for number, row in enumerate(_one_class_after_another(rows)[: params.golden_frames]):
            image = folder / f"{number:03d}.jpg"
            pixels_hwc = _write_golden_image(read_frame(project, row), image, params.golden_max_side)
            np.save(folder / f"{number:03d}.npy", pixels_hwc, allow_pickle=False)
            with torch.inference_mode():
                from_torch = network(checkpoint.preprocess(torch.from_numpy(pixels_hwc[None])))
            logits["torch"].append(from_torch[0].tolist())
            for name, classifier in classifiers.items():
                logits[name].append(classifier.logits(pixels_hwc[None])[0].tolist())
            height, width = pixels_hwc.shape[:2]
            samples.append(
                {
                    "name": f"{number:03d}",
                    "label": row.label,
                    "image": image.name,
                    "pixels": f"{number:03d}.npy",
                    "height": height,
                    "width": width,
                }
            )
        write_json(folder / "golden.json", {"samples": samples, "logits": logits})


def _one_class_after_another(rows: Sequence[Row]) -> list[Row]:
    """Rows dealt in turn from each class, so that a few of them show every class."""
    by_class = [[row for row in rows if row.label == name] for name in manifest.class_names(rows)]
    return [row for turn in itertools.zip_longest(*by_class) for row in turn if row is not None]


def _write_golden_image(frame_hwc: NDArray[np.uint8], path: Path, max_side: int) -> NDArray[np.uint8]:
    """Shrink a frame to travel light, write it as JPEG, and give the pixels that decoding it gives."""
    height, width = frame_hwc.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small_hwc = cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small_hwc, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    path.write_bytes(encoded.tobytes())
    return read_image(path, max_pixels=max_side * max_side)


def _write_flips(comparisons: dict[str, Comparison], classes: Sequence[str], project: Project) -> None:
    """List every frame on which a variant answers differently from torch, with both margins."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "variant", "torch", "graph", "torch_margin", "graph_margin"])
    for name, comparison in comparisons.items():
        torch_margins, graph_margins = _margins(comparison.torch_logits), _margins(comparison.graph_logits)
        for i in map(int, np.flatnonzero(comparison.flipped)):
            row = comparison.rows[i]
            said = (classes[comparison.torch_logits[i].argmax()], classes[comparison.graph_logits[i].argmax()])
            writer.writerow([row.path, row.label, name, *said, f"{torch_margins[i]:.6f}", f"{graph_margins[i]:.6f}"])
    with replacing_file(project.flips_csv) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
