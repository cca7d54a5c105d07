"""What an engine costs on one machine: `python benchmarks/engines.py [--quick] [--json]`.

`pipe extract` decodes 15, 60 and 240 clips of the demo (640 x 480 pixels, 6 to 8 s), with empty caches, in threads and
with `loky`, which joblib brings along, and with `ray` where that is installed. Each run is a process of its own, and
the engine starts and ends with it, on this machine. The engines take turns.

A line is fitted to the seconds of an engine, the fewest of its rounds, since other work only adds to them. It has
`start_seconds`, which no clip changes, and `clip_seconds`. An engine on n machines like this one has the same start,
and the clips take an nth of the time. So `pays_from_clips` is the number of clips from which two machines are faster
than threads on one: the difference of the starts, divided by what the second machine saves with each clip.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the checkout that the benchmark lies in

from pipeline.base.project import Project  # noqa: E402
from pipeline.tools.demo.demo_clips import make_demo_clips  # noqa: E402

LOCAL = ""  # of PIPE_ENGINE: threads on this machine
PACKAGES = {LOCAL: "joblib", "loky": "joblib", "ray": "ray"}  # Dask wants a cluster that runs already
N_CLIPS = (15, 60, 240)
MACHINES = 2


def main() -> None:
    """Film, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="15 and 60 clips, once instead of three times")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_clips, rounds = (N_CLIPS[:2], 1) if arguments.quick else (N_CLIPS, 3)
    result = measure(n_clips, rounds)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(_lines(result)))


def measure(n_clips: Sequence[int], rounds: int) -> dict[str, Any]:
    """Run every engine on every number of clips."""
    engines = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
    seconds: dict[tuple[str, int], list[float]] = {(name, n): [] for name in engines for n in n_clips}
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        clips = Path(folder, "clips")
        make_demo_clips(clips)
        for n in n_clips:
            project = _project(Path(folder, str(n)), clips, n)
            for turn in range(rounds):
                for name in [*engines[turn % len(engines) :], *engines[: turn % len(engines)]]:  # nobody always first
                    seconds[name, n].append(_extract(project, name))
    fewest = {key: min(values) for key, values in seconds.items()}
    lines = {name: np.polyfit(n_clips, [fewest[name, n] for n in n_clips], 1) for name in engines}
    clip_seconds, start_seconds = lines[LOCAL]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "fewest": {f"{name or 'threads'}_{n}_clips_seconds": round(value, 2) for (name, n), value in fewest.items()},
        "lines": {
            name or "threads": {"start_seconds": round(float(line[1]), 2), "clip_seconds": round(float(line[0]), 3)}
            for name, line in lines.items()
        },
        "pays_from_clips": {
            name: _pays_from(float(line[1] - start_seconds), float(clip_seconds - line[0] / MACHINES))
            for name, line in lines.items()
            if name != LOCAL
        },
    }


def _pays_from(later_start: float, gain: float) -> int | None:
    """The clips from which a gain for each of them is more than a later start; None where there is no gain."""
    return None if gain <= 0 else max(0, round(later_start / gain))


def _project(root: Path, clips: Path, n_clips: int) -> Project:
    """A project with so many clips: those of the demo, again and again, each with other bytes behind its last one."""
    project = Project(root)
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    demo = sorted(path for path in clips.rglob("*") if path.is_file())
    for number in range(n_clips):
        clip = demo[number % len(demo)]
        target = project.raw / clip.relative_to(clips).parent / f"{number:04}_{clip.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # A box of MP4 that every reader skips. Clips of equal bytes would be decoded once.
        target.write_bytes(clip.read_bytes() + (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))
    return project


def _extract(project: Project, engine: str) -> float:
    """The seconds of `pipe extract` with an engine, from an empty cache."""
    for written in (project.cache, project.frames, project.fingerprints):
        shutil.rmtree(written, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PIPE_ENGINE": engine, "RAY_USAGE_STATS_ENABLED": "0"}
    os.sync()  # a run must not wait for what an earlier one wrote
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline", "extract"]
    finished = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode:
        raise SystemExit(
            f"extract with {engine or 'threads'} ended with {finished.returncode}:\n{finished.stderr[-2000:]}"
        )
    print(f"{engine or 'threads'}, {project.root.name} clips: {seconds:.1f} s", file=sys.stderr)
    return seconds


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [result["machine"], *(f"{name:28} {value}" for name, value in result["fewest"].items())]
    for name, line in result["lines"].items():
        lines.append(f"{name:28} {line['start_seconds']} s, and {line['clip_seconds']} s for each clip")
    for name, n_clips in result["pays_from_clips"].items():
        shown = "never" if n_clips is None else f"from {n_clips} clips on"
        lines.append(f"{name:28} {MACHINES} machines pay {shown}")
    return lines


if __name__ == "__main__":
    main()
