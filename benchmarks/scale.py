"""The chain as the data grow: `python benchmarks/scale.py [--quick] [--json]`.

Three data sets are generated: 10,000 frames of clips and 1,000 photos, then ten times and a hundred times as many.
Pictures have 32 x 32 pixels, fifty frames make a clip, and four photos show one object. They lie on disk as `pipe
extract` leaves them. Then each stage runs its own functions in a process of its own:

- `manifest` reads and writes `data/frames.csv`.
- `groups` proposes groups, and searches copies of clips and near duplicates; the caches are empty.
- `split`, `dataset`, `train`, `evaluate` and `report` are the commands of that name, with default params. `split` finds
  the features of `groups` in the cache.
- `inputs` decodes every frame and computes the features that training reads; the caches are empty.
- `train` then fits one epoch of the head of each fold and of the network.

The network is a small one of timm with random weights, at 32 pixels. It gives as many features as the default one
(1,280). So decoding and the network take less time than with real pictures, and the rest takes as much. The report
shows an export and a parity of the smallest data set.

`seconds` are of a stage without its imports. `growth` is the processor seconds of ten times the data divided by those
of the data: 10 is linear.
`own_gigabytes` is the largest memory of the process and its children that is no mapped file, sampled; the caches are
mapped, and the system drops their pages when memory is short. `resident_gigabytes` counts those pages too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import psutil
from numpy.typing import NDArray
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the checkout that the benchmark lies in

from pipeline.base import manifest  # noqa: E402
from pipeline.base.fingerprints import Fingerprint, fingerprint_path  # noqa: E402
from pipeline.base.manifest import Row  # noqa: E402
from pipeline.base.project import Project  # noqa: E402
from pipeline.base.report_digest import hashes_of, write_report  # noqa: E402
from pipeline.extract.quality import brightness, luma_of_bgr, phash  # noqa: E402
from pipeline.extract.stage import ExtractReport  # noqa: E402
from pipeline.params import Params, read_params  # noqa: E402

SMALLEST, GROWTH = 10_000, 10
FRAMES_PER_CLIP, PHOTOS_PER_OBJECT, FRAMES_PER_PHOTO = 50, 4, 10  # frames in the data set for each photo
CLASSES = 10
SIDE, SECONDS_PER_FRAME = 32, 0.2
ARCH = "timm:lcnet_035"
STAGES = ("manifest", "groups", "split", "dataset", "inputs", "train", "evaluate", "report")
JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]
COPIED_REPORTS = ("export_json", "parity_json", "contract_json")  # of the smallest data set, for the report
SHARE_OF_SAMPLING = 0.05  # of a core: reading the memory of a large process takes milliseconds

Cost = dict[str, float]


def main() -> None:
    """Generate, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first two data sets")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", nargs=2, metavar=("STAGE", "DIR"), help=argparse.SUPPRESS)  # one stage, in DIR
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(run_stage(arguments.once[0], Project(Path(arguments.once[1])))))
        return
    sizes = [SMALLEST * GROWTH**power for power in range(2 if arguments.quick else 3)]
    result = measure(sizes)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(_lines(result)))


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Run all stages on a data set of each size, the smallest first; the data sets are removed one after the other."""
    costs: dict[int, dict[str, Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="scale-reports-") as reports:
        for n_frames in sizes:
            with tempfile.TemporaryDirectory(prefix="scale-") as folder:
                project = Project(Path(folder))
                generate(project, n_frames)
                costs[n_frames] = {}
                for stage in STAGES:
                    if stage == "report":
                        _copy_reports(project, Path(reports))
                    costs[n_frames][stage] = _measure_stage(stage, project)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "medians": {
            f"{stage}_{n_frames}_{name}": round(value, 3)
            for n_frames, of_stages in costs.items()
            for stage, cost in of_stages.items()
            for name, value in cost.items()
        },
        "ratios": {
            f"{stage}_{larger}_growth": round(
                costs[larger][stage]["processor_seconds"] / costs[smaller][stage]["processor_seconds"], 2
            )
            for smaller, larger in pairwise(sizes)
            for stage in STAGES
        },
    }


# The data set


def generate(project: Project, n_frames: int) -> None:
    """Write frames, fingerprints, manifests and the report as `extract` and `augment` leave them."""
    project.root.mkdir(parents=True, exist_ok=True)
    _write_params(project)
    n_clips, n_objects = n_frames // FRAMES_PER_CLIP, n_frames // FRAMES_PER_PHOTO // PHOTOS_PER_OBJECT
    recordings = [
        *(("clip", number) for number in range(n_clips)),
        *(("object", number) for number in range(n_objects)),
    ]
    draw = joblib.delayed(_draw)
    made = joblib.Parallel(n_jobs=-1, batch_size=64, return_as="generator")(
        draw(project, kind, number) for kind, number in recordings
    )
    rows = [row for of_recording in made for row in of_recording]
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)
    _write_extract_report(project, rows)


def _draw(project: Project, kind: str, number: int) -> list[Row]:
    """Draw the frames of a clip, or the photos of an object, and the fingerprint of a clip."""
    generator = np.random.default_rng((number, kind == "clip"))
    label = f"class {number % CLASSES}"
    scene_hwc = generator.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
    scene_hwc = np.asarray(cv2.resize(scene_hwc, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    scene_hwc[:4] = 25 * (number % CLASSES)  # by which a network can tell the class
    noise_hwc = generator.integers(0, 12, scene_hwc.shape, np.uint8)
    is_clip = kind == "clip"
    folder = project.frames / label / f"clip_{number:06}.mp4" if is_clip else project.frames / label
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for shot in range(FRAMES_PER_CLIP if is_clip else PHOTOS_PER_OBJECT):
        picture_hwc = cv2.add(scene_hwc, np.roll(noise_hwc, 61 * shot))
        path = folder / (f"{shot:06}.jpg" if is_clip else f"object{number}_{shot}.jpg")
        content = cv2.imencode(".jpg", picture_hwc, JPEG_QUALITY)[1].tobytes()
        path.write_bytes(content)
        source = f"data/raw/{label}/{folder.name if is_clip else path.name}"
        rows.append(_row(project, path, source, (picture_hwc, content), shot * SECONDS_PER_FRAME if is_clip else None))
    if is_clip:
        _write_fingerprint(project, rows[0].source, scene_hwc, generator)
    return rows


def _row(
    project: Project, path: Path, source: str, drawn: tuple[NDArray[np.uint8], bytes], time_seconds: float | None
) -> Row:
    luma_hw = luma_of_bgr(drawn[0])
    return Row(
        path=project.relative(path),
        label=path.relative_to(project.frames).parts[0],
        source=source,
        source_sha256=hashlib.sha256(source.encode()).hexdigest(),
        group=source,
        time_seconds=time_seconds,
        width=SIDE,
        height=SIDE,
        sharpness=float(luma_hw.var()),  # the measured one takes ten times as long as all the rest
        brightness=brightness(luma_hw),
        phash=phash(luma_hw),
        sha256=hashlib.sha256(drawn[1]).hexdigest(),
    )


def _write_fingerprint(
    project: Project, source: str, scene_hwc: NDArray[np.uint8], generator: np.random.Generator
) -> None:
    """Ten small pictures a second, in which the scene becomes another one."""
    first_hw = cv2.resize(luma_of_bgr(scene_hwc), (16, 16), interpolation=cv2.INTER_AREA)
    last_hw = cv2.resize(generator.integers(0, 256, (5, 5), np.uint8), (16, 16), interpolation=cv2.INTER_CUBIC)
    times = np.arange(0, FRAMES_PER_CLIP * SECONDS_PER_FRAME * 1000, 100).astype(np.int64)
    shares = np.linspace(0, 1, len(times))[:, None, None]
    pictures = (first_hw * (1 - shares) + last_hw * shares).astype(np.uint8)
    path = fingerprint_path(source, project)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Fingerprint(times, pictures).to_bytes())


def _write_params(project: Project) -> None:
    """The default params, but for the network, the size of its pictures and the number of epochs."""
    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    values["model"].update(arch=ARCH, weights=str(_write_weights(project.root)))
    values["image"]["size"] = SIDE
    values["train"].update(epochs=1, log_with=[])
    values["augment"]["copies"] = []
    yaml.dump(values, project.params_yaml)


def _write_weights(folder: Path) -> Path:
    import torch

    from pipeline.network.backbones import build_body

    torch.manual_seed(0)
    path = folder / "weights.pt"
    torch.save(build_body(ARCH, "none", plain=False).backbone.state_dict(), path)
    return path


def _write_extract_report(project: Project, rows: Sequence[Row]) -> None:
    first = {row.source: row for row in rows}
    clips = [row for row in first.values() if row.time_seconds is not None]
    classes = {label: {"clips": 0, "photos": 0, "frames": 0, "kept": 0} for label in manifest.class_names(rows)}
    for row in first.values():
        classes[row.label]["photos" if row.time_seconds is None else "clips"] += 1
    for row in rows:
        classes[row.label]["frames"] += 1
        classes[row.label]["kept"] += row.kept
    report = ExtractReport(
        n_frames=len(rows),
        n_photos=len(first) - len(clips),
        classes=classes,
        clips=tuple(_clip_report(row) for row in clips),
        left_out={},
        ignored=(),
        unread={},
        linked_folders=(),
        misnamed={},
        photo_warnings={},
        params=_params(project).extract.model_dump(),
        manifest_path=project.relative(project.frames_csv),
    )
    write_report(project.extract_json, report.to_json(), made_from={}, wrote=hashes_of([project.frames_csv], project))


def _clip_report(row: Row) -> dict[str, Any]:
    return {
        "source": row.source,
        "sha256": row.source_sha256,
        "width": row.width,
        "height": row.height,
        "warnings": [],
        "frames_extracted": FRAMES_PER_CLIP,
    }


def _params(project: Project) -> Params:
    return read_params(project.params_yaml)


def _copy_reports(project: Project, reports: Path) -> None:
    """Export and compare the first data set that comes; the reports of all later ones show these."""
    if not any(reports.iterdir()):
        for stage in ("export", "parity"):
            _run([sys.executable, "-m", "pipeline", stage], project)
        for name in COPIED_REPORTS:
            shutil.copy(getattr(project, name), reports)
    for name in COPIED_REPORTS:
        target: Path = getattr(project, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reports / target.name, target)


# The stages


def run_stage(stage: str, project: Project) -> Cost:
    """Run a stage in this process; returns its seconds, without those of the imports, and what stayed in memory."""
    os.chdir(project.root)
    work = {
        "manifest": _manifest,
        "groups": _groups,
        "split": _split,
        "dataset": _dataset,
        "inputs": _inputs,
        "train": _train,
        "evaluate": _evaluate,
        "report": _report,
    }[stage](project, _params(project))
    started, processor = time.perf_counter(), _processor_seconds()
    work()
    seconds, processor_seconds = time.perf_counter() - started, _processor_seconds() - processor
    return {"seconds": seconds, "processor_seconds": processor_seconds, "resident_gigabytes": _peak_kib() * 1024 / 1e9}


def _manifest(project: Project, _: Params) -> Callable[[], object]:
    def work() -> None:
        manifest.write(manifest.read(project.frames_csv), project.root / "copy.csv")

    return work


def _groups(project: Project, params: Params) -> Callable[[], object]:
    from pipeline.split.grouping import merge_groups
    from pipeline.split.near_duplicates.clip_copies import find_clip_copies
    from pipeline.split.near_duplicates.search import find_near_duplicates
    from pipeline.split.proposals import propose

    def work() -> None:
        rows = manifest.read(project.frames_csv)
        grouped, _ = merge_groups(rows, links=propose(rows, frozenset(), photos=True, within_given=False).links)
        copies = find_clip_copies(grouped, project)
        pairs = find_near_duplicates(grouped, params.split.near_duplicates, project)
        print(
            f"groups: {copies.n_proposed} pairs of clips and {pairs.n_proposed} of pictures compared, "
            f"{len(copies.copies)} and {len(pairs.confirmed)} confirmed",
            file=sys.stderr,
        )

    return work


def _split(project: Project, params: Params) -> Callable[[], object]:
    from pipeline.split.stage import split

    return lambda: split(params.split, project)


def _dataset(project: Project, _: Params) -> Callable[[], object]:
    from pipeline.tools.dataset import dataset

    return lambda: dataset(project)


def _inputs(project: Project, params: Params) -> Callable[[], object]:
    import torch

    from pipeline.network.network import build_network
    from pipeline.train.inputs.feature_cache import exact_features, view_features
    from pipeline.train.precision import resolve_precision
    from pipeline.train.training_data import read_training_data

    def work() -> None:
        data = read_training_data(params.train, params.model, params.image, project)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            resolve_precision(params.train.precision)
        ]
        network = build_network(params.model, params.image.size, len(data.classes)).to(device)
        network.to(memory_format=torch.channels_last)
        rows = [row for row in data.in_folds if row.kept]
        view_features(network, data.images(rows), params.train, precision, device)
        exact_features(network, data.images(data.in_folds), params.train.batch_size)

    return work


def _train(project: Project, params: Params) -> Callable[[], object]:
    from pipeline.train.stage import train

    return lambda: train(params.train, params.model, params.image, project)


def _evaluate(project: Project, params: Params) -> Callable[[], object]:
    from pipeline.evaluate.stage import evaluate

    return lambda: evaluate(params.evaluate, project)


def _report(project: Project, _: Params) -> Callable[[], object]:
    from pipeline.report.stage import report

    return lambda: report(project)


# Time and memory


def _measure_stage(stage: str, project: Project) -> Cost:
    """Run a stage in a process of its own, and look at the memory of this process and its children meanwhile."""
    command = [sys.executable, __file__, "--once", stage, str(project.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    own = 0
    while process.poll() is None:
        started = time.perf_counter()
        own = max(own, _own_bytes(process.pid))
        time.sleep(max(0.05, (time.perf_counter() - started) / SHARE_OF_SAMPLING))
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{stage} ended with {process.returncode}")
    cost = {**json.loads(output.splitlines()[-1]), "own_gigabytes": own / 1e9}
    print(f"{project.root.name}: {stage} {cost}", file=sys.stderr)
    return cost


def _own_bytes(pid: int) -> int:
    """The memory of a process and its children that is no mapped file; what they share counts once."""
    with suppress(psutil.NoSuchProcess):
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(_own_bytes_of(process.pid) for process in processes)
    return 0


def _own_bytes_of(pid: int) -> int:
    with suppress(OSError):  # it has just ended
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        return 1024 * (kib["Pss_Anon"] + kib["Pss_Shmem"])
    return 0


def _run(command: Sequence[str], project: Project) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{command[-1]} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")


def _processor_seconds() -> float:
    """Of this process, and of the children that it has waited for."""
    return sum(os.times()[:4])


def _peak_kib() -> int:
    # Not from getrusage, whose peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield result["machine"]
    for name, value in {**result["medians"], **result["ratios"]}.items():
        yield f"{name:44} {value}"


if __name__ == "__main__":
    main()
