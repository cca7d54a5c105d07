"""The golden pictures: a few held-out frames whose logits travel with the bundle, for the device's selfcheck."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from export.graphs.gates import Logits, margins
from export.graphs.params import ParityParams
from pipeline.base import manifest
from pipeline.base.files import replacing_folder, write_json
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from runtime.answers import KNOWN_SCORE, Answers
from runtime.classifier import Classifier
from runtime.images import read_image

SURE = 2.0  # tolerances by which the best class must lead: it may lose one while the second class gains one


def write_golden(
    rows: Sequence[Row],
    params: ParityParams,
    ask_torch: Callable[[NDArray[np.uint8]], Answers],
    classifiers: Mapping[str, Classifier],
    project: Project,
) -> None:
    """Write golden frames: images, raw pixels, the logits of torch and of every variant, and the known scores.

    Args:
        rows: held-out frames; the first `params.golden_frames` of them are written.
        params: the section `parity` of `params.yaml`.
        ask_torch: pictures, uint8 (batch, height, width, 3), to torch's answers.
        classifiers: the variants, by their names.
        project: whose frames are read, and whose `models/golden/` is written.
    """
    logits: dict[str, list[list[float]]] = {"torch": [], **{name: [] for name in classifiers}}
    scores: dict[str, list[float]] = {}
    samples = []
    with replacing_folder(project.golden) as folder:
        for index, row in enumerate(rows[: params.golden_frames]):
            image = folder / f"{index:03d}.jpg"
            pixels_hwc = _write_image(read_frame(project, row), image, params.golden_max_side)
            np.save(folder / f"{index:03d}.npy", pixels_hwc, allow_pickle=False)
            logits["torch"].append(ask_torch(pixels_hwc[None]).logits[0].tolist())
            for name, classifier in classifiers.items():
                answers = classifier.answers(pixels_hwc[None])
                logits[name].append(answers.logits[0].tolist())
                if classifier.contract.unknown_score == KNOWN_SCORE:
                    scores.setdefault(name, []).append(float(answers.scores[0]))
            samples.append(_sample(image.stem, row.label, pixels_hwc))
        write_json(folder / "golden.json", {"samples": samples, "logits": logits, "scores": scores})


def _sample(name: str, label: str, pixels_hwc: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a picture's entry in `golden.json`."""
    height, width = pixels_hwc.shape[:2]
    return {
        "name": name,
        "label": label,
        "image": f"{name}.jpg",
        "pixels": f"{name}.npy",
        "height": height,
        "width": width,
    }


def golden_order(rows: Sequence[Row], logits: Mapping[str, Logits], classifiers: Mapping[str, Classifier]) -> list[Row]:
    """Order frames so that the first few show every class and every variant is sure of them.

    The selfcheck wants the same labels on every device, and int8 logits differ between processors by a known share.
    Frames of which a variant is not sure follow, the surest first. Both parts are dealt in turn from the classes.

    Args:
        rows: the n held-out frames.
        logits: of each variant, by its name, (n, classes).
        classifiers: the variants, by their names; each knows its golden tolerance.
    """
    sureness = np.full(len(rows), np.inf)
    for name, classifier in classifiers.items():
        numbers = np.nan_to_num(logits[name])
        allowed = SURE * classifier.variant.golden_tolerance * float(np.ptp(numbers))
        sureness = np.minimum(sureness, margins(numbers) / max(allowed, 1e-30))
    sure = [row for row, times in zip(rows, sureness, strict=True) if times > 1]
    unsure = sorted((i for i in range(len(rows)) if sureness[i] <= 1), key=lambda i: -sureness[i])
    return [*_one_class_after_another(sure), *_one_class_after_another([rows[i] for i in unsure])]


def _one_class_after_another(rows: Sequence[Row]) -> list[Row]:
    by_class = [[row for row in rows if row.label == name] for name in manifest.class_names(rows)]
    return [row for turn in itertools.zip_longest(*by_class) for row in turn if row is not None]


def _write_image(frame_hwc: NDArray[np.uint8], path: Path, max_side: int) -> NDArray[np.uint8]:
    """Shrink a frame, write it as JPEG, and return the pixels that decoding the file gives."""
    height, width = frame_hwc.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small_hwc = cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small_hwc, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    path.write_bytes(encoded.tobytes())
    return read_image(path, max_pixels=max_side * max_side)
