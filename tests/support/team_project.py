"""A project in git and DVC whose two small stages stand for the chain, and commands as a person types them.

Commands of DVC and `pipe` run in this process, which saves a second for each.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from dvc.cli import main as dvc_main

from pipeline.base.project import Project
from pipeline.cli.main import run as run_pipe_here

ROOT = Path(__file__).parents[2]

# As the real chain: recordings, then frames that persist, then a model; reports in git.
_DVC_YAML = """
stages:
  extract:
    cmd: python extract.py
    deps: [data/raw, extract.py]
    params: [extract]
    outs:
      - data/frames: {persist: true}
      - data/frames.csv: {persist: true}
      - reports/extract.json: {cache: false, persist: true}
  train:
    cmd: python train.py
    deps: [data/frames, data/split.keep.csv, train.py]
    params: [train.lr]
    outs:
      - models/checkpoint.pt
      - reports/train: {cache: false}
"""

# It reads everything before it writes, and replaces its folder as a whole.
_EXTRACT = """
import json, pathlib, shutil

raw = pathlib.Path("data/raw")
found = {path.relative_to(raw).as_posix(): path.read_text() for path in sorted(raw.glob("[!.]*/*"))}
if not found:
    raise SystemExit("pipe: data/raw: no classes")
frames = pathlib.Path("data/frames")
shutil.rmtree(frames, ignore_errors=True)
for name, text in found.items():
    (frames / name).parent.mkdir(parents=True, exist_ok=True)
    (frames / name).write_text(text)
pathlib.Path("data/frames.csv").write_text("\\n".join(found))
pathlib.Path("reports/extract.json").write_text(json.dumps({"names": list(found)}, indent=1))
"""

_TRAIN = """
import json, pathlib

frames = sorted(path for path in pathlib.Path("data/frames").rglob("*") if path.is_file())
texts = [path.read_text() for path in frames]
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/checkpoint.pt").write_text("learned from " + ", ".join(texts))
report = pathlib.Path("reports/train")
report.mkdir(parents=True, exist_ok=True)
(report / "metrics.json").write_text(json.dumps({"n": len(texts), "texts": texts}, indent=1))
"""


def team_project(root: Path) -> Project:
    """Write the project and commit it. It has no recordings, and nothing has run."""
    root.mkdir(parents=True)
    for name in ("params.yaml", ".gitignore", ".gitattributes", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc")
    shutil.copy(ROOT / ".dvc" / ".gitignore", root / ".dvc")
    for name, text in (("dvc.yaml", _DVC_YAML), ("extract.py", _EXTRACT), ("train.py", _TRAIN)):
        (root / name).write_text(text, encoding="utf-8")
    (root / "data").mkdir()
    for name in ("groups.csv", "split.keep.csv"):
        shutil.copy(ROOT / "data" / name, root / "data")
    (root / "reports").mkdir()
    (root / "reports" / ".gitkeep").touch()
    git(root, "init", "--quiet", "--initial-branch", "main")
    name_person(root)
    commit(root, "Begin")
    return Project(root)


def name_person(root: Path) -> None:
    """Tell git who commits here."""
    git(root, "config", "user.name", "ann")
    git(root, "config", "user.email", "ann@example.org")


def commit(root: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


def git(folder: Path, *arguments: str) -> str:
    """Run git; what it printed."""
    finished = _run(folder, ["git", *arguments])
    assert finished.returncode == 0, f"git {arguments}: {finished.stdout}\n{finished.stderr}"
    return finished.stdout


def typed(folder: Path, commands: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run lines as a person types them, the first in `folder`; every one has to succeed.

    Returns:
        The folder that the person is in afterwards.
    """
    for line in commands:
        words = [os.path.expandvars(Path(word).expanduser()) for word in shlex.split(line)]
        if words[0] == "cd":
            folder = folder / words[1]
            continue
        code = run_line(folder, words, monkeypatch)
        assert code == 0, f"{line}: ended with {code}"
    return folder


def run_line(folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one command in a folder; its exit code."""
    if words[0] not in ("dvc", "pipe"):
        finished = _run(folder, words)
        sys.stdout.write(finished.stdout + finished.stderr)
        return finished.returncode
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", _path())
        if words[0] == "dvc":
            return int(dvc_main(words[1:]))
        return run_pipe_here(words[1:])


def _run(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": _path(), "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _path() -> str:
    """With the programs of this environment first: `dvc`, and `python` in dvc.yaml."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
