"""The time of `pipe split` as the data grow: `python benchmarks/split.py [--quick] [--json]`.

Manifests of 100,000 and of 1,000,000 rows (frames and one copy of each, fifty rows to a clip) are generated. They are
split in turn, each time in a process of its own. Printed are the medians, the growth and the peak memory. `growth_10x`
is the time for ten times the rows divided by the time for the rows: 10 is linear. The rows have no pictures, so near
duplicates are not searched for; benchmarks/duplicates.py measures proposing them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the checkout that the benchmark lies in

from pipeline.base import manifest  # noqa: E402
from pipeline.base.manifest import Row  # noqa: E402
from pipeline.base.project import Project  # noqa: E402
from pipeline.base.section import read_section  # noqa: E402
from pipeline.split.params import SplitParams  # noqa: E402
from pipeline.split.stage import split  # noqa: E402

ROWS_PER_CLIP = 50
CLASSES = 10


def main() -> None:
    """Generate, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round instead of three")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)  # split one project and print its time and memory
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(_split_once(Project(arguments.once))))
        return
    small = 10_000 if arguments.quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        projects = {n_rows: Project(Path(folder) / str(n_rows)) for n_rows in (small, 10 * small)}
        for n_rows, project in projects.items():
            _generate(project, n_rows // ROWS_PER_CLIP)
        taken = _measure(projects, 1 if arguments.quick else 3)
    result = _result(taken, small)
    print(json.dumps(result, indent=2) if arguments.json else _as_lines(result))


def _generate(project: Project, n_clips: int) -> None:
    frames = [row for clip in range(n_clips) for row in _frames(clip)]
    manifest.write(frames, project.frames_csv)
    manifest.write((_copy(frame) for frame in frames), project.augmented_csv)


def _frames(clip: int) -> Iterator[Row]:
    source = f"data/raw/class {clip % CLASSES}/clip_{clip:06}.mp4"
    for index in range(ROWS_PER_CLIP // 2):
        yield Row(
            path=f"{source.replace('raw', 'frames', 1)}/{index:06}.jpg",
            label=f"class {clip % CLASSES}",
            source=source,
            source_sha256=f"{clip:064x}",
            group=source,
            time_seconds=float(index),
            width=1920,
            height=1080,
            sharpness=100.0 + index,
            brightness=128.0,
            phash=f"{clip * ROWS_PER_CLIP + index:016x}",
        )


def _copy(frame: Row) -> Row:
    path = frame.path.replace("frames", "augmented", 1)
    return Row(
        path=f"{path.removesuffix('.jpg')}.0_rotate_90.jpg",
        label=frame.label,
        source=frame.source,
        source_sha256=frame.source_sha256,
        group=frame.group,
        time_seconds=frame.time_seconds,
        parent=frame.path,
        transform="rotate_90",
        width=1080,
        height=1920,
    )


def _measure(projects: dict[int, Project], rounds: int) -> dict[int, list[dict[str, float]]]:
    taken: dict[int, list[dict[str, float]]] = {n_rows: [] for n_rows in projects}
    for _ in range(rounds):
        for n_rows, project in projects.items():
            command = [sys.executable, __file__, "--once", str(project.root)]
            finished = subprocess.run(command, check=True, capture_output=True, text=True)
            taken[n_rows].append(json.loads(finished.stdout))
    return taken


def _split_once(project: Project) -> dict[str, float]:
    read = read_section(ROOT / "params.yaml", "split", SplitParams)
    params = read.model_copy(update={"near_duplicates": read.near_duplicates.model_copy(update={"search": False})})
    started = time.perf_counter()
    split(params, project)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time(),
        "peak_gib": _peak_kib() / 2**20,
    }


def _peak_kib() -> int:
    # Not from getrusage, whose peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _result(taken: dict[int, list[dict[str, float]]], small: int) -> dict[str, object]:
    median = {
        (n_rows, quantity): statistics.median(run[quantity] for run in runs)
        for n_rows, runs in taken.items()
        for quantity in runs[0]
    }
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "medians": {f"rows_{n_rows}_{quantity}": round(value, 3) for (n_rows, quantity), value in median.items()},
        "ratios": {"growth_10x": round(median[10 * small, "seconds"] / median[small, "seconds"], 2)},
    }


def _as_lines(result: dict[str, object]) -> str:
    numbers = {**result["medians"], **result["ratios"]}  # type: ignore[dict-item]
    return "\n".join(f"{name:36} {value:.3f}" for name, value in numbers.items())


if __name__ == "__main__":
    main()
