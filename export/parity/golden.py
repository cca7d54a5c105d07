"""The golden pictures: a few held-out frames whose logits travel with the bundle, for the device's selfcheck."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
from runtime.classifier import Classifier
from runtime.images import read_image

SURE = 2.0  # tolerances by which the best class must lead: it may lose one, and the second gain one


def write_golden(
    rows: Sequence[Row],
    params: ParityParams,
    ask_torch: Callable[[NDArray[np.uint8]], Logits],
    classifiers: Mapping[str, Classifier],
    project: Project,
) -> None:
    """Write frames for the device's selfcheck: images, raw pixels, and the logits of torch and of every variant."""
    logits: dict[str, list[list[float]]] = {"torch": [], **{name: [] for name in classifiers}}
    samples = []
    with replacing_folder(project.golden) as folder:
        for number, row in enumerate(rows[: params.golden_frames]):
            image = folder / f"{number:03d}.jpg"
            pixels_hwc = _write_image(read_frame(project, row), image, params.golden_max_side)
            np.save(folder / f"{number:03d}.npy", pixels_hwc, allow_pickle=False)
            logits["torch"].append(ask_torch(pixels_hwc[None])[0].tolist())
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


def golden_order(rows: Sequence[Row], logits: Mapping[str, Logits], classifiers: Mapping[str, Classifier]) -> list[Row]:
    """Rows dealt in turn from each class, so that a few show every class; first those that every variant is sure of.

    The selfcheck wants the same labels on every device, and int8 logits differ between processors by a known share.
    Those that a variant is not sure of follow, the surest first.
    """
    sureness = np.full(len(rows), np.inf)
    for name, classifier in classifiers.items():
        found = np.nan_to_num(logits[name])
        allowed = SURE * classifier.variant.golden_tolerance * float(np.ptp(found))
        sureness = np.minimum(sureness, margins(found) / max(allowed, 1e-30))
    sure = [row for row, times in zip(rows, sureness, strict=True) if times > 1]
    others = sorted((i for i in range(len(rows)) if sureness[i] <= 1), key=lambda i: -sureness[i])
    return [*_one_class_after_another(sure), *_one_class_after_another([rows[i] for i in others])]


def _one_class_after_another(rows: Sequence[Row]) -> list[Row]:
    by_class = [[row for row in rows if row.label == name] for name in manifest.class_names(rows)]
    return [row for turn in itertools.zip_longest(*by_class) for row in turn if row is not None]


def _write_image(frame_hwc: NDArray[np.uint8], path: Path, max_side: int) -> NDArray[np.uint8]:
    """Shrink a frame to travel light, write it as JPEG, and give the pixels that decoding it gives."""
    height, width = frame_hwc.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small_hwc = cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small_hwc, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    path.write_bytes(encoded.tobytes())
    return read_image(path, max_pixels=max_side * max_side)
