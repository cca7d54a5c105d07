"""The parts of `tests/trials/gpu_check.py` that are neither tests nor benchmarks: `... -m tests.trials.gpu_parts PART`.

machine: the card and the versions. views: how many random views a second. chain DIR: the stages on photos of cats and
dogs, with folds and refit, and the selfcheck on CUDA and without it. tensorrt DIR: the graphs of that chain on
TensorRT. busy DIR: the share of the time in which a full fine-tune of ResNet50 keeps the GPU busy. Each prints JSON. It
ends with 1 if a check failed, and with 77 if this machine cannot run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.params import read_params
from runtime.archive import unpack
from runtime.classifier import CONTRACT
from runtime.contract import Contract
from tests.house.rooms import STAGE_NAMES
from tests.support.command import ROOT, run_pipe
from tests.support.small_project import set_params
from tests.trials.gpu_check import NOT_POSSIBLE

SHARED = Path(os.environ.get("PIPE_SHARED", ROOT.parent / "shared"))
WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet-features.safetensors"
ONLINE = [
    {"name": "random_resized_crop", "area": [0.25, 1.0], "aspect": [0.75, 1.3333]},
    {"name": "mirror_left_right", "probability": 0.5},
]
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
CLASSES, N_PHOTOS = ("cat", "dog"), 60  # of each class
SIZE, BATCH = 224, 64
BUSY_EPOCHS = 6
TENSORRT_TOLERANCE = 0.05  # of the logits' range: TensorRT may compute with TF32


class NotPossibleError(Exception):
    """This machine lacks what a part needs."""


def main(arguments: Sequence[str]) -> int:
    """Run a part and print what it found."""
    name, *folders = arguments
    part: Callable[..., dict[str, Any]] = {
        "machine": machine, "views": views, "chain": chain, "tensorrt": tensorrt, "busy": busy,
    }[name]  # fmt: skip
    try:
        found = part(*(Path(folder) for folder in folders))
    except NotPossibleError as error:
        print(error)
        return NOT_POSSIBLE
    print(json.dumps(found, indent=2))
    return int(not found.get("passed", True))


def machine() -> dict[str, Any]:
    """The card, its driver, and the versions; a machine whose torch sees no GPU fails."""
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout if shutil.which(query[0]) else ""
    return {
        "passed": bool(cards),
        "cards": cards,
        "driver": driver.strip(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
    }


def views() -> dict[str, Any]:
    """Random views a second, of a batch together and one by one, and whether both are the same within a level."""
    from pipeline.train.inputs.batched_views import batched_views, padded
    from pipeline.train.inputs.random_views import random_views, view_generator
    from tests.support.study_views import as_views

    device, drawn = _gpu(), as_views(*ONLINE)
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.integers(0, 256, (BATCH, 3, 48, 64), dtype=np.uint8))
    pictures_nchw = torch.nn.functional.interpolate(coarse, size=(360, 480), mode="bilinear")
    pictures_hwc = [*pictures_nchw.permute(0, 2, 3, 1).contiguous().numpy()]

    def together() -> torch.Tensor:
        generators = [view_generator(0, 0, index) for index in range(BATCH)]
        return batched_views(padded(pictures_hwc, device), drawn, generators, SIZE)

    def one_by_one(where: torch.device) -> torch.Tensor:
        generators = [view_generator(0, 0, index) for index in range(BATCH)]
        return random_views(pictures_nchw.to(where), drawn, generators, SIZE)

    difference = (together().cpu().int() - one_by_one(torch.device("cpu")).int()).abs()
    return {
        "passed": int(difference.max()) <= 1,
        "largest_difference_of_255": int(difference.max()),
        "together_per_second": _per_second(together),
        "one_by_one_per_second": _per_second(lambda: one_by_one(device)),
        "on_the_cpu_per_second": _per_second(lambda: one_by_one(torch.device("cpu"))),
    }


def _gpu() -> torch.device:
    if not torch.cuda.is_available():
        raise NotPossibleError("torch sees no GPU")
    return torch.device("cuda")


def _per_second(draw: Callable[[], torch.Tensor], rounds: int = 5) -> int:
    draw()
    _wait()
    started = time.perf_counter()
    for _ in range(rounds):
        draw()
    _wait()
    return round(rounds * BATCH / (time.perf_counter() - started))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def chain(folder: Path) -> dict[str, Any]:
    """All stages on photos of cats and dogs, a head with folds and refit, and the selfcheck of the bundle."""
    project = _project_of_photos(folder)
    set_params(
        project,
        augment={"copies": []},
        model={"arch": "mobilenet_v2", "weights": str(WEIGHTS), "freeze": "all", "head": "linear"},
        train={"online": ONLINE, "estimate": "folds", "refit": "all"},
    )
    seconds = {stage: _seconds_of(project, stage) for stage in STAGE_NAMES}
    bundle = project.root / "bundle"
    unpack(project.bundle_zip, bundle)
    checked, hidden = _selfcheck(bundle), _selfcheck(bundle, CUDA_VISIBLE_DEVICES="")
    on_cuda = {check["variant"] for check in checked["variants"] if check["provider"] == CUDA}
    parity = read_json(project.parity_json)
    return {
        "passed": bool(
            parity["passed"] and checked["passed"] and on_cuda == {check["variant"] for check in checked["variants"]}
        ),
        "seconds": seconds,
        "top1": read_json(project.evaluate_json)["top1"],
        "parity_passed": parity["passed"],
        "on_cuda": sorted(on_cuda),
        "selfcheck": checked["variants"],
        "selfcheck_without_gpu": hidden["variants"],
        "not_used": checked["not_used"],
    }


def _project_of_photos(folder: Path) -> Project:
    photos = SHARED / "data" / "cats_dogs"
    if not photos.is_dir() or not WEIGHTS.is_file():
        raise NotPossibleError(f"{photos} or {WEIGHTS} is missing; set PIPE_SHARED")
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(folder)
    for label in CLASSES:
        (project.raw / label).mkdir(parents=True)
        for photo in sorted((photos / label).glob("*.jpg"))[:N_PHOTOS]:
            shutil.copyfile(photo, project.raw / label / photo.name)
    return project


def _seconds_of(project: Project, stage: str) -> float:
    started = time.monotonic()
    finished = run_pipe(project.root, stage)
    if finished.returncode:
        raise SystemExit(f"{stage}: {finished.stderr.strip()}")
    return round(time.monotonic() - started, 1)


def _selfcheck(bundle: Path, **environment: str) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-m", "runtime", "selfcheck", "--json"],
        cwd=bundle, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        report: dict[str, Any] = json.loads(finished.stdout)
    except ValueError:
        raise SystemExit(f"selfcheck: {finished.stderr.strip()}") from None
    return report


def tensorrt(folder: Path) -> dict[str, Any]:
    """The graphs of the chain on TensorRT, compared with the CPU."""
    if TENSORRT not in onnxruntime.get_available_providers():
        raise NotPossibleError(f"this onnxruntime has no {TENSORRT}")
    bundle = folder / "bundle"
    if not bundle.is_dir():
        raise NotPossibleError(f"{bundle} is missing: the part `chain` did not come so far")
    pictures_nhwc = np.random.default_rng(0).integers(0, 256, (1, 360, 480, 3), dtype=np.uint8)
    found: dict[str, Any] = {}
    for variant in Contract.read(bundle / CONTRACT).variants:
        content = (bundle / variant.file).read_bytes()
        try:
            on_tensorrt = Graph(content, provider=TENSORRT)
        except DataError as error:
            raise SystemExit(f"{variant.name}: {error}") from error
        expected, logits = Graph(content)(pictures_nhwc), on_tensorrt(pictures_nhwc)
        span = float(expected.max() - expected.min())
        difference = float(np.abs(logits - expected).max())
        found[variant.name] = {"max_logit_difference": difference, "range": span, "provider": on_tensorrt.provider}
    close = [each["max_logit_difference"] <= TENSORRT_TOLERANCE * each["range"] for each in found.values()]
    return {"passed": all(close), "graphs": found}


def busy(folder: Path) -> dict[str, Any]:
    """Share of the time in which the GPU computes, while all of ResNet50 is fitted from the frame cache."""
    if not torch.cuda.is_available() or not shutil.which("nvidia-smi"):
        raise NotPossibleError("torch sees no GPU, or nvidia-smi is missing")
    from pipeline.train import fit, stage

    project = _project_of_photos(folder)
    set_params(
        project,
        augment={"copies": []},
        model={"arch": "resnet50", "weights": "none", "freeze": "none", "head": "linear"},
        image={"size": SIZE},
        train={"online": ONLINE, "estimate": "holdout", "refit": "none", "epochs": BUSY_EPOCHS, "batch_size": BATCH},
    )
    for name in ("extract", "augment", "split"):
        _seconds_of(project, name)
    samples: list[int] = []
    fit_epoch = fit.Fit._fit_epoch
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]

    def timed(self: fit.Fit, epoch: int, *rest: Any) -> Any:
        if epoch == 1:  # decodes the frames, and cuDNN starts
            return fit_epoch(self, epoch, *rest)
        watch = subprocess.Popen([*query, "--loop-ms=100"], stdout=subprocess.PIPE, text=True)
        try:
            return fit_epoch(self, epoch, *rest)
        finally:
            watch.terminate()
            samples.extend(int(line) for line in watch.communicate()[0].split())

    fit.Fit._fit_epoch = timed  # type: ignore[method-assign]
    params = read_params(project.params_yaml)
    with contextlib.redirect_stdout(sys.stderr):  # the run prints its layers, which are no part of the JSON
        stage.train(params.train, params.model, params.image, project)
    rates = read_json(project.train_reports / "metrics.json")["train"]
    return {
        "passed": bool(samples),
        "busy_percent": float(np.mean(samples)) if samples else None,
        "n_samples": len(samples),
        "last": rates,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
