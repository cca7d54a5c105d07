"""Runs every stage on a disk that is full at a seeded moment, and where the temporary folder is.

python -m tests.trials.full_disks FOLDER [RUNS]    prints a JSON object per run, and a table; needs root

The chain runs once on a whole disk. Each run mounts a tmpfs, copies the finished project into it, and leaves some bytes
free: in the project, or in the folder for temporaries. A run is bad if it ends by a signal, with exit code
70 or 3, after 600 seconds, with more than one line for a full disk, with a line that lacks both numbers, or with an old
output that changed or vanished although the stage failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.project import Project
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.trials.small_chain import digests, make_chain, outputs, run_stage


@contextlib.contextmanager
def own_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2G", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def leave_free(disk: Path, n_bytes: int) -> None:
    """Shrink a disk to what it holds and so many bytes more."""
    status = os.statvfs(disk)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    subprocess.run(["mount", "-o", f"remount,size={used + n_bytes}", disk], check=True)


def trial(chain: Project, where: str, stage: str, free: int, folder: Path) -> dict[str, Any]:
    """One run of a stage whose project or temporary folder has so many bytes free."""
    with own_disk(folder / "project") as root, own_disk(folder / "temporary") as temporary:
        shutil.copytree(chain.root, root, symlinks=True, dirs_exist_ok=True)
        if stage in ("extract", "augment", "split", "train"):  # else nothing is computed
            shutil.rmtree(root / ".cache", ignore_errors=True)
        leave_free(root if where == "project" else temporary, free)
        names = outputs(stage)
        before = digests(root, names)
        try:
            finished = run_stage(stage, root, temporary)
        except subprocess.TimeoutExpired:
            return {"where": where, "stage": stage, "free": free, "code": None, "bad": "did not end"}
        lines = [line for line in finished.stderr.splitlines() if line.startswith("pipe: ")]
        changed = finished.returncode != 0 and digests(root, names) != before
        return {
            "where": where,
            "stage": stage,
            "free": free,
            "code": finished.returncode,
            "bad": fault_of(finished.returncode, lines, changed=changed),
            "line": lines[-1] if lines else finished.stderr[-300:],
        }


def fault_of(code: int, lines: list[str], *, changed: bool) -> str:
    """Say what is wrong with the end of a stage; empty where nothing is.

    Args:
        code: its exit code.
        lines: the lines that it printed for a person.
        changed: whether an old output is another one now, or is gone.
    """
    if code == 0:
        return ""
    if code != 1:
        return f"exit code {code}"
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if not re.search(r"[\d,]+ bytes", lines[0]):
        return "a line without numbers"
    return "an output changed or vanished" if changed else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the chain runs and the disks are mounted; made where absent")
    parser.add_argument("runs", type=int, nargs="?", default=54, help="default: 54, six of each stage")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if os.geteuid() != 0:
        parser.error("needs root: it mounts small disks")
    if (folder / "chain").exists():
        parser.error(f"{folder / 'chain'} exists; name a new folder")
    chain = make_chain(folder / "chain")
    generator = random.Random(0)
    results: list[dict[str, Any]] = []
    for number in range(arguments.runs):
        stage, where = STAGES[number % len(STAGES)], ("project", "temporary")[number // len(STAGES) % 2]
        free = int(10 ** generator.uniform(3.7, 7))
        result = trial(chain, where, stage, free, folder / f"run{number}")
        (folder / f"run{number}").rmdir()
        results.append(result)
        print(json.dumps(result), flush=True)
    print(table(results))
    raise SystemExit(any(result["bad"] for result in results))


def table(results: Sequence[dict[str, Any]]) -> str:
    """The runs of each stage, in Markdown: how many there were, on too small a disk, and with a fault."""
    lines = ["| stage | runs | on too small a disk | bad |", "|---|---|---|---|"]
    for name in (*STAGES, "all"):
        runs = [result for result in results if name in (result["stage"], "all")]
        n_full, n_bad = (sum(bool(result[key]) for result in runs) for key in ("code", "bad"))
        lines.append(f"| {name} | {len(runs)} | {n_full} | {n_bad} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
