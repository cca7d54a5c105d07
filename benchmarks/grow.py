"""What a few clips more cost: `python benchmarks/grow.py [--quick] [--json]`.

A project of 100 generated clips runs the chain up to `train`. Then five clips are added, and the chain runs again.
Last, a new project of all 105 clips runs it from the start. Each stage is `pipe <stage>` in a process of its own, with
default params. Its outputs are removed before it starts. A ratio is the time of the second run divided by that of the
new project: below 1, less work was done again. The goal for the four stages together is 0.25.
Where other work shares the processors, the ratios of processor time mean more than those of seconds.

`identical` says whether both projects have the same manifests, the same copies and the same weights, bit for bit. For
this the new project gets the table of sides and folds of the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base import manifest
from pipeline.base.files import remove, sha256_of
from pipeline.base.project import Project

ROOT = Path(__file__).parents[1]
STAGES = ("extract", "augment", "split", "train")
CLASSES = ("discs", "lines", "squares")
WIDTH, HEIGHT, FRAMES_PER_SECOND, SECONDS = 1280, 720, 25, 8
SCENE = 1800  # pixels of a side; the camera moves over it
KINDS = ("clips", "copies", "near_duplicates", "frames", "embeddings", "features")  # below .cache
UNITS = ("seconds", "processor_seconds")
Cost = dict[str, float]  # by unit


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 clip more on 20 instead of 5 on 100")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_clips, n_more = (20, 1) if arguments.quick else (100, 5)
    with tempfile.TemporaryDirectory(prefix="grow-") as folder:
        clips = Path(folder, "clips")
        film(clips, n_clips + n_more)
        result = measure(Path(folder), sorted(clips.iterdir()), n_more)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(_lines(result)))


# The clips


def film(folder: Path, n_clips: int) -> None:
    """Film clips of drawn scenes, each another one, named <number>_<class>.mp4; several at a time."""
    import joblib

    folder.mkdir()
    list(joblib.Parallel(n_jobs=-1)(joblib.delayed(_film)(folder, number) for number in range(n_clips)))


def _film(folder: Path, number: int) -> None:
    generator = np.random.default_rng(number)
    label = CLASSES[number % len(CLASSES)]
    scene_hwc = _scene(label, generator)
    noise_hwc = generator.integers(0, 12, (HEIGHT, WIDTH, 3), np.uint8)
    start, step = generator.uniform(0, 200, 2), generator.uniform(0.3, 1.5, 2)
    with av.open(str(folder / f"{number:03}_{label}.mp4"), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"preset": "ultrafast", "crf": "20", "threads": "1", "g": "25"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(SECONDS * FRAMES_PER_SECOND):
            left, top = (start + step * index).astype(int)
            view_hwc = cv2.add(
                scene_hwc[top : top + HEIGHT, left : left + WIDTH], np.roll(noise_hwc, index * 7, axis=1)
            )
            frame = av.VideoFrame.from_ndarray(view_hwc, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _scene(label: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A coloured ground with shapes of the class, (SCENE, SCENE, 3)."""
    ground = generator.uniform(40, 215, (12, 12, 3)).astype(np.float32)
    scene_hwc = cv2.resize(ground, (SCENE, SCENE), interpolation=cv2.INTER_CUBIC)
    for _ in range(150):
        x, y = (int(value) for value in generator.integers(0, SCENE, 2))
        side = int(generator.integers(20, 90))
        colour = tuple(float(value) for value in generator.uniform(0, 255, 3))
        match label:
            case "discs":
                cv2.circle(scene_hwc, (x, y), side, colour, -1, cv2.LINE_AA)
            case "squares":
                cv2.rectangle(scene_hwc, (x, y), (x + side, y + side), colour, -1)
            case _:
                end = (x + int(generator.integers(-300, 300)), y + int(generator.integers(-300, 300)))
                cv2.line(scene_hwc, (x, y), end, colour, side // 5, cv2.LINE_AA)
    return scene_hwc.clip(0, 255).astype(np.uint8)


# The chain


def measure(folder: Path, clips: Sequence[Path], n_more: int) -> dict[str, Any]:
    """Run the chain on all clips but the last few, on all, and on all in a new project."""
    grown, new = _project(folder / "grown"), _project(folder / "new")
    _add(clips[:-n_more], grown)
    first, disk_before = _run_chain(grown), _disk(grown)
    _add(clips[-n_more:], grown)
    more, disk_after = _run_chain(grown), _disk(grown)
    _add(clips, new)
    shutil.copy(grown.split_keep_csv, new.split_keep_csv)  # so that every clip has the same side and fold
    whole = _run_chain(new)
    costs = {"first": first, "more": more, "new": whole}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "data": f"{n_more} clips of {SECONDS} s and {WIDTH} x {HEIGHT} more on {len(clips) - n_more}; "
        f"{len(manifest.read_split(grown.split_csv))} images then",
        "medians": {
            f"{name}_{stage}_{unit}": round(value, 2)
            for name, of_stages in costs.items()
            for stage, cost in of_stages.items()
            for unit, value in cost.items()
        },
        "cache_megabytes": {
            kind: {"before": round(before / 1e6, 1), "more": round((disk_after[kind] - before) / 1e6, 1)}
            for kind, before in disk_before.items()
        },
        "identical": _identical(grown, new),
        "ratios": {
            f"{stage}_{unit}": round(value / whole[stage][unit], 3)
            for stage, cost in more.items()
            for unit, value in cost.items()
        },
    }


def _project(root: Path) -> Project:
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    return Project(root)


def _add(clips: Iterable[Path], project: Project) -> None:
    for clip in clips:
        target = project.raw / clip.stem.split("_")[1] / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, target)


def _run_chain(project: Project) -> dict[str, Cost]:
    """What each stage costs, and all together."""
    costs = {stage: _run_stage(stage, project) for stage in STAGES}
    return {**costs, "chain": {unit: sum(cost[unit] for cost in costs.values()) for unit in UNITS}}


def _run_stage(stage: str, project: Project) -> Cost:
    for output in _outputs(stage):
        remove(project.root / output)
    os.sync()  # a stage must not wait for what an earlier one wrote
    command, environment = [sys.executable, "-m", "pipeline", stage], os.environ | {"PYTHONPATH": str(ROOT)}
    before, started = _processor_seconds(), time.perf_counter()
    finished = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    cost = dict(zip(UNITS, (time.perf_counter() - started, _processor_seconds() - before), strict=True))
    if finished.returncode:
        raise SystemExit(f"{stage} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    print(f"{project.root.name}: {stage} {cost}", file=sys.stderr)
    return cost


def _processor_seconds() -> float:
    """The processor time of all processes that this one has started and waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _outputs(stage: str) -> list[str]:
    from ruamel.yaml import YAML

    outs = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["outs"]
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def _disk(project: Project) -> dict[str, int]:
    """The bytes of each kind of cache."""
    files = {kind: (path for path in (project.cache / kind).rglob("*") if path.is_file()) for kind in KINDS}
    return {kind: sum(path.stat().st_size for path in of_kind) for kind, of_kind in files.items()}


def _identical(first: Project, second: Project) -> bool:
    import torch

    from pipeline.network.checkpoint import read_checkpoint

    def files(project: Project) -> dict[str, str]:
        folders = (project.frames, project.augmented)
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        tables = (project.frames_csv, project.augmented_csv, project.split_csv)
        return {project.relative(path): sha256_of(path) for path in (*paths, *tables)}

    states = [read_checkpoint(project.checkpoint).state_dict for project in (first, second)]
    same_weights = all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    return files(first) == files(second) and same_weights and states[0].keys() == states[1].keys()


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [result["machine"], result["data"]]
    for name, value in {**result["medians"], "identical": result["identical"]}.items():
        lines.append(f"{name:44} {value}")
    for kind, values in result["cache_megabytes"].items():
        lines.append(f".cache/{kind}: {values['before']} MB before, {values['more']} MB more")
    return [*lines, *(f"ratio of {name:35} {value}" for name, value in result["ratios"].items())]


if __name__ == "__main__":
    main()
