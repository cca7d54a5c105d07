"""Training against the loops that people write: `python benchmarks/train.py [--quick] [--json]`.

The photos are shared hymenoptera (PIPE_SHARED): train/ trains, val/ is held out; the weights are shared MobileNetV2.
The reference is torchvision's training script cut to its loop: every epoch decodes every photo with Pillow in loader
processes, draws a random resized crop and a flip, and sends it through the whole network in fp32, frozen features
included. `bf16` is the same loop with autocast and channels_last. Ours is `pipe train` in this process, its caches
empty for the frozen recipe (they are part of the run) and warm for full fine-tuning (where the ratio is by epoch).
All run in turn, so that a busy machine slows all alike, and on the GPU where there is one. A peer's 100 epochs are one
epoch times 100, since each does the same work; the runs whose accuracy is compared are run whole. Ratios are the peer's
time by ours. Once ours has run, the process keeps freed memory, and the loops gain from that too.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from pipeline.base import manifest
from pipeline.base.files import sha256_of, write_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.inference import Frames
from pipeline.network.network import build_preprocess
from pipeline.params import Params, validate_params
from pipeline.train.inputs.batches import label_images, pictures, prefetch
from pipeline.train.inputs.feature_cache import CachedFeatures
from pipeline.train.precision import resolve_precision
from pipeline.train.stage import train

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PIPE_SHARED", ROOT.parent / "shared"))
WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet-features.safetensors"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # for our runs and for the peers
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, AREA, ASPECT = 224, (0.25, 1.0), (0.75, 4 / 3)
BATCH_FROZEN, BATCH_FULL, EPOCHS, VIEWS, LR = 32, 16, 100, 8, 0.001
FULL = ("resnet34", "mobilenet_v2")  # the whole network is fitted
N_FEATURES = 3000
ONLINE = [
    {"name": "random_resized_crop", "area": AREA, "aspect": ASPECT},
    {"name": "mirror_left_right", "probability": 0.5},
]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round and one seed instead of 3 and 5")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds, n_seeds = (1, 1) if arguments.quick else (3, 5)
    with tempfile.TemporaryDirectory() as folder:
        project = project_of_photos(Path(folder))
        medians = {**frozen(project, rounds), **full(project, rounds), **inputs(rounds), **head_epochs(rounds)}
        result = _result(
            {name: statistics.median(values) for name, values in medians.items()}, accuracy(project, n_seeds)
        )
    print(json.dumps(result, indent=2) if arguments.json else _text(result))


# The photos, for both


def project_of_photos(root: Path) -> Project:
    """Shared hymenoptera as a project that is split: train/ trains, val/ is the test side."""
    project = Project(root)
    rows = []
    for side, folder in (("train", "train"), ("test", "val")):
        for photo in sorted((SHARED / "data" / "hymenoptera" / folder).rglob("*.jpg")):
            path = project.frames / photo.parent.name / folder / photo.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, path)
            with Image.open(path) as image:
                width, height = image.size
            name, sha256 = project.relative(path), sha256_of(path)
            rows.append(
                Row(name, photo.parent.name, name, sha256, name, width=width, height=height, sha256=sha256, split=side)
            )
    manifest.write_split(rows, project.split_csv)
    write_json(project.split_json, {"protocol": "given", "optimistic": None})
    return project


def rows_of(project: Project, side: str) -> list[Row]:
    return [row for row in manifest.read_split(project.split_csv) if row.split == side]


# Ours


def params_with(**sections: dict[str, Any]) -> Params:
    from ruamel.yaml import YAML

    values = YAML(typ="safe").load(ROOT / "params.yaml")
    for name, changed in sections.items():
        values[name].update(changed)
    return validate_params(values, ROOT / "params.yaml")


def _train(params: Params, project: Project) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # the run prints its layers, which are no part of the JSON
        train(params.train, params.model, params.image, project)


def _ours_frozen(project: Project, seed: int) -> float:
    """Seconds of `pipe train`: 100 epochs of the head on eight cached views a photo, with nothing cached before."""
    params = params_with(
        model={"arch": "mobilenet_v2", "weights": str(WEIGHTS), "freeze": "all", "head": "linear"},
        image={"size": SIZE},
        train={
            "seed": seed, "epochs": EPOCHS, "batch_size": BATCH_FROZEN, "online": ONLINE, "cached_views": VIEWS,
            "optimizer": "adam", "lr": LR, "schedule": {"name": "cosine"},
        },
    )  # fmt: skip
    shutil.rmtree(project.cache, ignore_errors=True)
    started = time.perf_counter()
    _train(params, project)
    return time.perf_counter() - started


def _ours_full(project: Project, arch: str) -> float:
    """Seconds of an epoch of `pipe train` that fits the whole network, its frames cached: the second of two."""
    params = params_with(
        model={"arch": arch, "weights": "none", "freeze": "none", "head": "linear"},
        image={"size": SIZE},
        train={"epochs": 2, "batch_size": BATCH_FULL, "online": ONLINE, "optimizer": "sgd", "lr": LR},
    )
    _train(params, project)
    rate = project.train_reports / "plots" / "metrics" / "train" / "images_per_second.tsv"
    with rate.open(encoding="utf-8") as file:
        per_second = float(list(csv.DictReader(file, delimiter="\t"))[-1]["images_per_second"])
    return len(rows_of(project, "train")) / per_second


# The peers


@dataclass(frozen=True)
class Photos(Dataset[tuple[Tensor, int]]):
    """Photo files with class numbers, decoded anew in every epoch."""

    paths: Sequence[Path]
    labels: Sequence[int]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), self.labels[index]


def view_of_the_loop() -> Callable[[Image.Image], Tensor]:
    """A random view as torchvision's reference training cuts it from a decoded photo."""
    return v2.Compose([
        v2.RandomResizedCrop(SIZE, scale=AREA, ratio=ASPECT, antialias=True), v2.RandomHorizontalFlip(),
        v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD),
    ])  # fmt: skip


def _loader(project: Project, batch_size: int) -> DataLoader[tuple[Tensor, int]]:
    rows = rows_of(project, "train")
    classes = sorted({row.label for row in rows})
    labels = [classes.index(row.label) for row in rows]
    photos = Photos([project.root / row.path for row in rows], labels, view_of_the_loop())
    workers = os.cpu_count() or 1
    return DataLoader(
        photos, batch_size, shuffle=True, num_workers=workers, persistent_workers=True, pin_memory=DEVICE.type == "cuda"
    )


class Reference:
    """One network, its loader and optimiser; `epoch` is the loop's body."""

    def __init__(self, project: Project, network: nn.Module, batch_size: int, *, frozen: bool, bf16: bool) -> None:
        network = network.to(DEVICE)
        self.network = network.to(memory_format=torch.channels_last) if bf16 else network
        self.frozen, self.bf16 = frozen, bf16
        self.loader = _loader(project, batch_size)
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(learning, LR) if frozen else torch.optim.SGD(learning, LR, momentum=0.9)

    def epoch(self) -> float:
        """Seconds of one epoch."""
        started = time.perf_counter()
        self.network.train(not self.frozen)
        for images, labels in self.loader:
            input_nchw = images.to(DEVICE, non_blocking=True)
            if self.bf16:
                input_nchw = input_nchw.to(memory_format=torch.channels_last)
            with torch.autocast(DEVICE.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext():
                loss = functional.cross_entropy(self.network(input_nchw), labels.to(DEVICE, non_blocking=True))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        _finish()
        return time.perf_counter() - started


def _reference_frozen(project: Project, seed: int, *, bf16: bool) -> Reference:
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(load_file(WEIGHTS), strict=False)
    network.requires_grad_(False)
    network.classifier = nn.Linear(1280, 2)
    return Reference(project, network, BATCH_FROZEN, frozen=True, bf16=bf16)


# What is measured


def frozen(project: Project, rounds: int) -> dict[str, list[float]]:
    """Seconds of 100 epochs of the frozen recipe."""
    peers = {name: _reference_frozen(project, 0, bf16=name == "bf16") for name in ("reference", "bf16")}
    values: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
    for _ in range(rounds + 1):
        for name, peer in peers.items():
            values[name].append(peer.epoch() * EPOCHS)
        values["ours"].append(_ours_frozen(project, 0))
    return {
        f"frozen_{name}_seconds": seconds[1:] for name, seconds in values.items()
    }  # the first round starts the loaders' processes


def accuracy(project: Project, n_seeds: int) -> dict[str, list[float]]:
    """Test accuracy after 100 epochs of the frozen recipe, by seed: eight cached views against fresh ones."""
    values: dict[str, list[float]] = {"ours": [], "bf16": []}
    for seed in range(n_seeds):
        peer = _reference_frozen(project, seed, bf16=True)
        schedule = lr_scheduler.CosineAnnealingLR(peer.optimizer, EPOCHS)
        for _ in range(EPOCHS):
            peer.epoch()
            schedule.step()
        values["bf16"].append(_top1(peer.network, project))
        _ours_frozen(project, seed)
        values["ours"].append(_top1(read_checkpoint(project.checkpoint).network(), project))
    return values


def full(project: Project, rounds: int) -> dict[str, list[float]]:
    """Seconds of one epoch of fitting a whole network."""
    values: dict[str, list[float]] = {}
    for arch in FULL:
        peer = Reference(
            project, torchvision.models.get_model(arch, num_classes=2), BATCH_FULL, frozen=False, bf16=False
        )
        peer.epoch()
        for _ in range(rounds):
            values.setdefault(f"full_{arch}_reference_seconds_per_epoch", []).append(peer.epoch())
            values.setdefault(f"full_{arch}_ours_seconds_per_epoch", []).append(_ours_full(project, arch))
    return values


def inputs(rounds: int) -> dict[str, list[float]]:
    """Images a second as the network's normalised input: from the frame cache, one memory map, and 1080p JPEGs."""
    values: dict[str, list[float]] = {f"input_{source}_images_per_second": [] for source in ("cache", "map", "jpeg")}
    with tempfile.TemporaryDirectory() as folder:
        project = _large_frames(Path(folder))
        params = params_with(
            model={"arch": "mobilenet_v2", "weights": "none"}, image={"size": SIZE}, train={"online": []}
        )
        preprocess = build_preprocess(params.model, params.image)
        rows = rows_of(project, "train")
        cached = pictures(label_images(project, rows, ["class"], preprocess), params.train)
        np.save(Path(folder) / "whole.npy", cached.frames.stacked(range(len(rows))))
        mapped = replace(cached, frames=MappedFrames(np.load(Path(folder) / "whole.npy", mmap_mode="r")))  # type: ignore[arg-type]
        transform = v2.Compose([
            v2.Resize((SIZE, SIZE), antialias=True), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])  # fmt: skip
        photos = Photos([project.root / row.path for row in rows], [0] * len(rows), transform)
        loader = DataLoader(photos, BATCH_FROZEN, num_workers=os.cpu_count() or 1, persistent_workers=True)
        batches = [list(range(start, start + BATCH_FROZEN)) for start in range(0, len(rows), BATCH_FROZEN)]
        _drain(loader)
        for _ in range(rounds):
            values["input_jpeg_images_per_second"].append(len(rows) / _drain(loader))
            for name, source in (("cache", cached), ("map", mapped)):
                many = _drain(batch for epoch in range(10) for batch in prefetch(source, batches, epoch, DEVICE))
                values[f"input_{name}_images_per_second"].append(10 * len(rows) / many)
    return values


@dataclass(frozen=True)
class MappedFrames:
    """The same pictures in one file, which would have to be written whole for every version of the data."""

    pixels_nhwc: NDArray[np.uint8]

    def stacked(self, positions: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of some pictures."""
        return np.asarray(self.pixels_nhwc[list(positions)])


def head_epochs(rounds: int) -> dict[str, list[float]]:
    """Seconds of one epoch of a linear head on 3,000 cached features of 1,280 channels, in batches of 32 (Adam)."""
    head = nn.Linear(1280, 4).to(DEVICE)
    optimizer = torch.optim.Adam(head.parameters(), LR)
    labels = torch.arange(N_FEATURES) % 4
    cached = CachedFeatures(
        torch.randn(N_FEATURES, VIEWS, 1280).bfloat16(), torch.arange(VIEWS).repeat(N_FEATURES, 1), labels
    )
    seconds = []
    for epoch in range(10 * rounds):
        started = time.perf_counter()
        order = torch.randperm(N_FEATURES).split(BATCH_FROZEN)
        for features, truth in prefetch(cached, [part.tolist() for part in order], epoch, DEVICE):
            optimizer.zero_grad()
            functional.cross_entropy(head(features), truth).backward()
            optimizer.step()
        _finish()
        seconds.append(time.perf_counter() - started)
    return {"head_epoch_of_3000_seconds": seconds}


def _large_frames(root: Path) -> Project:
    """64 JPEG frames of 1920 x 1080 pixels with a phone's noise."""
    import skimage.data

    project = Project(root)
    (project.frames / "class").mkdir(parents=True)
    generator = np.random.default_rng(0)
    photograph = Image.fromarray(skimage.data.astronaut()).resize((1920, 1080))
    rows = []
    for i in range(64):
        noisy = np.asarray(photograph) + generator.normal(0, 2.0, (1080, 1920, 3))
        path = project.frames / "class" / f"{i:06}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
        name = project.relative(path)
        rows.append(Row(name, "class", name, "0" * 64, name, width=1920, height=1080, split="train"))
    manifest.write_split(rows, project.split_csv)
    return project


def _drain(batches: Iterable[Any]) -> float:
    started = time.perf_counter()
    for _ in batches:
        pass
    _finish()
    return time.perf_counter() - started


def _finish() -> None:
    """Wait for what a GPU still has in its queue."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _top1(network: nn.Module, project: Project) -> float:
    """Test accuracy of a MobileNetV2, in float32, on the full frames as the graph sees them."""
    network.cpu().eval()
    params = params_with(model={"arch": "mobilenet_v2", "weights": "none"}, image={"size": SIZE})
    rows = rows_of(project, "test")
    classes = sorted({row.label for row in rows})
    frames = Frames(project, rows, classes, build_preprocess(params.model, params.image))
    with torch.inference_mode():
        right = [int(network(input_nchw).argmax()) == int(label) for input_nchw, label in DataLoader(frames, 1)]
    return sum(right) / len(right)


def _result(medians: dict[str, float], top1: dict[str, list[float]]) -> dict[str, Any]:
    def ratio(peer: str, ours: str) -> float:
        return round(medians[peer] / medians[ours], 2)

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {resolve_precision('auto')}, {_device()}",
        "medians": {name: round(value, 3) for name, value in medians.items()},
        "top1": top1,
        "ratios": {
            "frozen_100_epochs_vs_reference": ratio("frozen_reference_seconds", "frozen_ours_seconds"),
            "frozen_100_epochs_vs_bf16": ratio("frozen_bf16_seconds", "frozen_ours_seconds"),
            "frozen_accuracy_difference": round(statistics.mean(top1["ours"]) - statistics.mean(top1["bf16"]), 4),
            **{
                f"full_{arch}_vs_reference": ratio(
                    f"full_{arch}_reference_seconds_per_epoch", f"full_{arch}_ours_seconds_per_epoch"
                )
                for arch in FULL
            },
            "input_vs_jpeg_decode": ratio("input_cache_images_per_second", "input_jpeg_images_per_second"),
            "input_vs_memory_map": ratio("input_cache_images_per_second", "input_map_images_per_second"),
        },
    }


def _device() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU"


def _text(result: dict[str, Any]) -> str:
    means = {f"frozen_{name}_top1": round(statistics.mean(tops), 4) for name, tops in result["top1"].items()}
    numbers = {**result["medians"], **means, **result["ratios"]}
    return "\n".join([result["machine"], *(f"{name:44} {value}" for name, value in numbers.items())])


if __name__ == "__main__":
    main()
