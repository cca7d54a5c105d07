"""Measure `pipe evaluate` without the network: `python benchmarks/evaluate.py [--quick] [--json]`.

There are 10,000 test and 10,000 training frames in ten classes, twenty frames to a clip. Planted features and
logits replace the network's forward pass. What remains is metrics,
intervals, baselines, the counterfactual, tables and pictures.
Prints wall-clock seconds, processor seconds and the peak memory, torch included.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the checkout that the benchmark lies in

from pipeline.base import manifest  # noqa: E402
from pipeline.base.files import write_json  # noqa: E402
from pipeline.base.manifest import Row  # noqa: E402
from pipeline.base.project import Project  # noqa: E402
from pipeline.base.section import read_section  # noqa: E402
from pipeline.draw.sheets import write_jpeg  # noqa: E402
from pipeline.evaluate import predictions  # noqa: E402
from pipeline.evaluate.params import EvaluateParams  # noqa: E402
from pipeline.evaluate.stage import evaluate  # noqa: E402
from pipeline.network.calibration import not_calibrated  # noqa: E402
from pipeline.network.checkpoint import Checkpoint  # noqa: E402
from pipeline.network.network import build_network, build_preprocess  # noqa: E402
from pipeline.network.out_of_fold import write_fold_heads  # noqa: E402
from pipeline.network.params import ImageParams, ModelParams  # noqa: E402

CLASSES = tuple(f"class {index}" for index in range(10))
FRAMES_PER_CLIP = 20
CHANNELS = 1280  # of MobileNetV2's and EfficientNet-Lite0's features


def main() -> None:
    """Generate, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_frames = 1000 if arguments.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        _generate(project, n_frames)
        predictions.infer = _planted  # type: ignore[assignment]
        started, processor = time.perf_counter(), time.process_time()
        print(f"generated after {time.process_time():.1f} s of the processor", file=sys.stderr)
        evaluate(read_section(ROOT / "params.yaml", "evaluate", EvaluateParams), project)
        taken = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - processor}
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "n_frames": n_frames,
        **taken,
        "peak_gib": _peak_kib() / 2**20,
    }
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def _generate(project: Project, n_frames: int) -> None:
    """Write the split, a 1080p picture under the names of all frames, and a checkpoint that says it is pretrained."""
    picture = project.frames / "picture.jpg"
    picture.parent.mkdir(parents=True)
    write_jpeg(np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8), picture)
    rows = [_row(side, frame) for side in ("train", "test") for frame in range(n_frames)]
    for row in rows:
        (project.root / row.path).hardlink_to(picture)
    manifest.write_split(rows, project.split_csv)
    write_json(project.split_json, {"protocol": "grouped", "optimistic": None})
    defaults = read_section(ROOT / "params.yaml", "model", ModelParams)
    model = defaults.model_copy(update={"arch": "mobilenet_v2", "weights": "none"})
    image = read_section(ROOT / "params.yaml", "image", ImageParams)
    network = build_network(model, image.size, len(CLASSES))
    pretrained = model.model_copy(update={"weights": "imagenet"})
    Checkpoint(
        state_dict=network.state_dict(),
        classes=CLASSES,
        model=pretrained,
        preprocess=build_preprocess(model, image),
        fingerprints={"git": None, "data": None},
        selection="last",
        estimate="holdout",
        refit="none",
        learned_from=(),
        calibration=not_calibrated("not fitted"),
    ).write(project.checkpoint)
    write_fold_heads([], project.fold_heads)


def _row(side: str, frame: int) -> Row:
    clip = frame // FRAMES_PER_CLIP
    name = CLASSES[clip % len(CLASSES)]
    source = f"data/raw/{name}/{side}_{clip:04}.mp4"
    return Row(
        path=f"data/frames/{side}_{frame:06}.jpg",
        label=name,
        source=source,
        source_sha256=f"{side == 'test':d}{clip:063x}",
        group=source,
        time_seconds=float(frame % FRAMES_PER_CLIP),
        width=1920,
        height=1080,
        split=side,
    )


def _planted(_: Any, frames: Any, *__: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around a centre for every class, and logits that are right for most frames: they replace `infer`."""
    generator = np.random.default_rng(len(frames.rows))
    truth = np.array([CLASSES.index(row.label) for row in frames.rows])
    centres = np.random.default_rng(0).standard_normal((len(CLASSES), CHANNELS), np.float32)
    features = generator.standard_normal((len(truth), CHANNELS), np.float32)  # in place, since the peak is measured
    features *= 4
    for index, centre in enumerate(centres):
        features[truth == index] += centre
    logits = generator.normal(0, 1, (len(truth), len(CLASSES))) + 2.5 * np.eye(len(CLASSES))[truth]
    return torch.from_numpy(features), torch.from_numpy(logits.astype(np.float32))


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
