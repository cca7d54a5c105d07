"""A project that has been through every stage, for trials that disturb it: clips of two classes, a small network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.base.project import Project
from tests.house.rooms import STAGE_NAMES as STAGES
from tests.support.media import write_raw
from tests.support.small_project import set_params

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 600
CHAIN: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def run_stage(stage: str, folder: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", stage]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
    )


def make_chain(root: Path, arch: str = "resnet18", side: int = 32) -> Project:
    """A project after every stage; its network trains in a second."""
    project = make_project(root, arch, side)
    write_raw(project.raw, clips=3)
    run_chain(project)
    return project


def make_project(root: Path, arch: str = "resnet18", side: int = 32) -> Project:
    """A project without recordings, whose params ask for little work."""
    root.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "runtime", root / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(root)
    model = {"arch": arch, "weights": "none"}
    set_params(project, model=model, image={"size": side}, train={"epochs": 3, "batch_size": 8})
    near_duplicates = {
        "search": False,
        "hash_bits": 4,
        "correlation": 0.7,
    }  # the clips of a class differ in length only
    set_params(project, extract={"frames_per_second": 4.0}, split={"near_duplicates": near_duplicates})
    return project


def run_chain(project: Project) -> None:
    for stage in STAGES:
        finished = run_stage(stage, project.root, Path(tempfile.gettempdir()))
        if finished.returncode:
            raise SystemExit(f"{stage} of an undisturbed project: {finished.stderr}")


def outputs(stage: str) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in CHAIN[stage]["outs"]]


def files_below(root: Path, names: Iterable[str]) -> list[Path]:
    """The files that some outputs of a project are, or hold."""
    tops = [root / name for name in names]
    found = (path for top in tops for path in ([top] if top.is_file() else sorted(top.rglob("*"))))
    return [path for path in found if path.is_file()]


def digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_below(root, names)
    }
