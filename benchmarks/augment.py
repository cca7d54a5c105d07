"""Augmentation against its peers: `python benchmarks/augment.py [--quick] [--json]`; needs the extra `bench`.

Each makes four copies (two mirror flips, a quarter turn, a random affine map) of 1080p JPEG frames and writes them to
disk with JPEG quality 95. Ours is the stage as `pipe augment` runs it: it reads the manifest, checks, writes, flushes
to disk and writes the manifest of the copies. A peer is the loop that people write: for every copy it opens the frame,
transforms it and saves it. Its frames are shared out among as many processes as there are processors. The processes
are started and warm before the clock starts, and their libraries' own threads are off, since threads of several
processes slow one another. Ours and the peers run in turn, so that a busy machine slows all alike. The ratio is the
peer's time divided by ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # albumentations asks the network for a newer version at every start

import cv2
import numpy as np

from pipeline.augment.params import AugmentParams
from pipeline.augment.stage import augment
from pipeline.base import manifest
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section

WIDTH, HEIGHT = 1920, 1080
QUALITY = 95
PHOTOGRAPHS = ("astronaut", "brick", "coffee", "grass", "gravel", "rocket")  # CC0 or public domain, in scikit-image
NOISE = 2.0  # standard deviation in levels; a frame then has about as many bytes as a phone's (500 kB)
ROTATION, SHIFT, SCALE, SHEAR = 15.0, 0.1, (0.9, 1.1), 10.0  # as in params.yaml


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 frames and 3 rounds instead of 24 and 7")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_frames, rounds = (8, 3) if arguments.quick else (24, 7)
    with tempfile.TemporaryDirectory() as folder:
        project = _project(Path(folder), n_frames)
        result = _result(_measure(project, rounds), project, n_frames)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(result["machine"])
    print(result["data"])
    for name, value in {**result["medians"], **result["ratios"]}.items():
        print(f"{name:36} {value:.2f}")


def pil_loop(frame: Path, folder: Path) -> None:
    """Pillow, as a loop over four functions."""
    from PIL import Image, ImageOps

    makers: tuple[Callable[[Any], Any], ...] = (
        ImageOps.mirror,
        ImageOps.flip,
        lambda image: image.transpose(Image.Transpose.ROTATE_270),
        lambda image: image.transform(
            image.size, Image.Transform.AFFINE, tuple(_inverse_affine().ravel()), Image.Resampling.BILINEAR
        ),
    )
    for position, make in enumerate(makers):
        make(Image.open(frame).convert("RGB")).save(folder / f"{frame.stem}_{position}.jpg", quality=QUALITY)


def torchvision_pil(frame: Path, folder: Path) -> None:
    """Transforms v2 on Pillow images."""
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(1)
    makers = _torchvision_makers(v2, InterpolationMode)
    for position, make in enumerate(makers):
        make(Image.open(frame).convert("RGB")).save(folder / f"{frame.stem}_{position}.jpg", quality=QUALITY)


def torchvision_tensor(frame: Path, folder: Path) -> None:
    """Transforms v2 on tensors, with its own JPEG decoder and encoder."""
    import torch
    from torchvision import io
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(1)
    makers = _torchvision_makers(v2, InterpolationMode)
    for position, make in enumerate(makers):
        io.write_jpeg(make(io.decode_image(str(frame))), str(folder / f"{frame.stem}_{position}.jpg"), quality=QUALITY)


def albumentations(frame: Path, folder: Path) -> None:
    """Albumentations on arrays that OpenCV reads and writes."""
    import albumentations as A  # noqa: N812  # as its documentation spells it

    cv2.setNumThreads(1)
    makers = (
        A.HorizontalFlip(p=1),
        A.VerticalFlip(p=1),
        A.RandomRotate90(p=1),
        A.Affine(
            rotate=(-ROTATION, ROTATION), translate_percent=(-SHIFT, SHIFT), scale=SCALE, shear=(-SHEAR, SHEAR),
            border_mode=cv2.BORDER_REFLECT_101, p=1,
        ),
    )  # fmt: skip
    for position, make in enumerate(makers):
        pixels_hwc = cv2.cvtColor(cv2.imread(str(frame)), cv2.COLOR_BGR2RGB)
        copy_hwc = cv2.cvtColor(make(image=pixels_hwc)["image"], cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{frame.stem}_{position}.jpg"), copy_hwc, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


PEERS = (pil_loop, torchvision_pil, torchvision_tensor, albumentations)


def _torchvision_makers(v2: Any, modes: Any) -> tuple[Callable[[Any], Any], ...]:
    return (
        v2.RandomHorizontalFlip(p=1),
        v2.RandomVerticalFlip(p=1),
        lambda image: v2.functional.rotate(image, -90, expand=True),
        v2.RandomAffine(ROTATION, (SHIFT, SHIFT), SCALE, SHEAR, interpolation=modes.BILINEAR),
    )


def _inverse_affine() -> Any:
    generator = np.random.default_rng()
    angle, scale = generator.uniform(-ROTATION, ROTATION), generator.uniform(*SCALE)
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, scale)
    matrix[:, 2] += generator.uniform(-SHIFT, SHIFT, 2) * (WIDTH, HEIGHT)
    matrix[:, 1] += matrix[:, 0] * np.tan(np.radians(generator.uniform(-SHEAR, SHEAR)))
    return cv2.invertAffineTransform(matrix)


def _project(root: Path, n_frames: int) -> Project:
    import skimage.data

    project = Project(root)
    (project.frames / "class" / "clip").mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = []
    for index in range(n_frames):
        photograph = getattr(skimage.data, PHOTOGRAPHS[index % len(PHOTOGRAPHS)])()
        pixels_hwc = cv2.resize(np.atleast_3d(photograph), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        noisy = np.atleast_3d(pixels_hwc) + generator.normal(0, NOISE, (HEIGHT, WIDTH, 3))
        path = project.frames / "class" / "clip" / f"{index:06}.jpg"
        cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        rows.append(Row(project.relative(path), "class", "clip.mp4", "0" * 64, "clip", width=WIDTH, height=HEIGHT))
    manifest.write(rows, project.frames_csv)
    return project


def _measure(project: Project, rounds: int) -> dict[str, list[float]]:
    params = read_section(Path(__file__).parent.parent / "params.yaml", "augment", AugmentParams)
    folder = project.root / "peer"
    tasks = [(frame, folder) for frame in sorted(project.frames.rglob("*.jpg"))]
    seconds: dict[str, list[float]] = {"ours": [], **{peer.__name__: [] for peer in PEERS}}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in range(rounds + 1):
            for peer in PEERS:
                folder.mkdir()
                seconds[peer.__name__].append(_seconds(partial(pool.starmap, peer, tasks, 1), folder))
            seconds["ours"].append(_seconds(partial(augment, params, project), project.augmented))
    return {name: values[1:] for name, values in seconds.items()}  # the first round warms up


def _seconds(work: Callable[[], object], output: Path) -> float:
    """The seconds of the work. Its output folder is then removed, so that each run writes new files, as a first run."""
    os.sync()  # ours flushes its files, and must not pay for files of the peers that are still in memory
    started = time.perf_counter()
    work()
    elapsed = time.perf_counter() - started
    shutil.rmtree(output)
    return elapsed


def _result(seconds: dict[str, list[float]], project: Project, n_frames: int) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peers = {name: value for name, value in medians.items() if name != "ours"}
    kilobytes = sum(path.stat().st_size for path in project.frames.rglob("*.jpg")) / n_frames / 1000
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    return {
        "machine": f"{machine}, OpenCV {cv2.__version__}",
        "data": f"{n_frames} frames of {WIDTH} x {HEIGHT} pixels and {kilobytes:.0f} kB, {4 * n_frames} copies",
        "medians": {f"{name}_copies_per_second": round(4 * n_frames / value, 1) for name, value in medians.items()},
        "ratios": {
            "vs_best_peer": round(min(peers.values()) / medians["ours"], 2),
            **{f"vs_{name}": round(value / medians["ours"], 2) for name, value in peers.items()},
        },
    }


if __name__ == "__main__":
    main()
