"""Kills extractions at seeded moments, and compares what a second run writes and what it decodes again.

python -m tests.trials.killed_extractions FOLDER [TRIALS]    prints a JSON object per trial; 50 unless it says otherwise
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.project import Project
from tests.support.media import write_raw

ROOT = Path(__file__).parents[2]
TRIALS = 50
CLIPS = 12
COMMAND = """
from pathlib import Path
from pipeline.extract.stage import extract
from pipeline.extract.params import ExtractParams
from pipeline.base.project import Project
from pipeline.base.section import read_section
extract(read_section(Path("params.yaml"), "extract", ExtractParams), Project(Path.cwd()))
"""


def start(project: Project) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LOKY_MAX_CPU_COUNT": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND], cwd=project.root, env=environment, stderr=subprocess.DEVNULL
    )


def finish(project: Project) -> None:
    process = start(project)
    assert process.wait(600) == 0


def made_by(project: Project) -> dict[str, str]:
    """The digest of each file in the folders of the outputs."""
    tops = [project.frames.parent, project.extract_json.parent]
    return {
        path.relative_to(project.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in tops
        for path in sorted(top.rglob("*"))
        if path.is_file() and project.raw not in path.parents
    }


def entries(project: Project) -> dict[str, int]:
    """The entries of the clip cache, with the time at which each was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (project.cache / "clips").glob("[!.]*/recorded.json")}


def clear(project: Project) -> None:
    for folder in (project.cache, project.frames, project.fingerprints, project.extract_json.parent):
        shutil.rmtree(folder, ignore_errors=True)
    for stale in project.frames.parent.glob(".*.tmp"):
        shutil.rmtree(stale)
    project.frames_csv.unlink(missing_ok=True)


def trial(project: Project, n_done: int, delay_seconds: float, undisturbed: dict[str, str]) -> dict[str, object]:
    clear(project)
    process = start(project)
    while len(entries(project)) < n_done and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay_seconds)
    process.send_signal(signal.SIGKILL)
    killed = process.wait(30) == -signal.SIGKILL
    done = entries(project)
    finish(project)
    after = entries(project)
    return {
        "killed_after": {"clips": n_done, "seconds": round(delay_seconds, 3)},
        "killed": killed,  # False: the run ended before
        "clips_done": len(done),
        "decoded_again": sum(after.get(name) != made for name, made in done.items()),
        "decoded_after": len(after) - len(done),
        "same_bytes": made_by(project) == undisturbed,
        "left_behind": [path.name for path in (project.cache / "clips").glob(".*.tmp")],
    }


def trials(folder: Path, count: int, clips: int = CLIPS) -> Iterator[dict[str, object]]:
    """Kill `count` runs over some clips: after a number of decoded clips, and a part of the time that a clip takes.

    Args:
        folder: an existing folder for the project.
        count: runs to kill.
        clips: clips in the project, an even number.
    """
    project = Project(folder / "project")
    write_raw(project.raw, clips=clips // 2, n_frames=40, sides=(640, 480))  # every frame: some clips take a while
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "frames_per_second: 1.0" in params
    (project.root / "params.yaml").write_text(
        params.replace("frames_per_second: 1.0", "frames_per_second: 10.0"), encoding="utf-8"
    )
    started = time.perf_counter()
    finish(project)
    length = time.perf_counter() - started
    undisturbed = made_by(project)
    assert len(entries(project)) == clips
    dice = random.Random(0)
    for number in range(count):  # spread over the clips, so that a few cover the run too
        n_done = number * clips // count
        delay_seconds = dice.random() * length / (clips if n_done else 1)  # before the first clip, the run starts
        yield trial(project, n_done, delay_seconds, undisturbed)


def main() -> None:
    """Print the trials."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else TRIALS
    for result in trials(Path(sys.argv[1]), count):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
