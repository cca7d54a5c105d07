"""Two builds of one bundle have the same bytes in different surroundings. A negative control shows the difference."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.project import Project
from tests.support.tiny_bundle import ROOT, write_project

# Builds the bundle once as it is, and once for each of the surroundings with its value in a file; prints the digests.
PROGRAM = """
import hashlib, json, os, sys, time
from pathlib import Path

root, umask, processors, backwards = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "backwards"
os.umask(umask)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
from export.bundle import stage
from pipeline.base.project import Project

class Listing:
    def __init__(self, entries): self.entries = iter(entries)
    def __iter__(self): return self
    def __next__(self): return next(self.entries)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    close = __exit__

listdir, scandir = os.listdir, os.scandir
os.listdir = lambda path=".": sorted(listdir(path), reverse=backwards)
os.scandir = lambda path=".": Listing(sorted(scandir(path), key=lambda entry: entry.name, reverse=backwards))
project = Project(root)
leaks = {
    "nothing": lambda: "",
    "time zone": lambda: time.localtime(0)[:6],
    "umask": lambda: os.umask(umask),
    "file times": lambda: os.stat(project.contract_json).st_mtime,
    "file modes": lambda: os.stat(project.contract_json).st_mode,
    "directory order": lambda: [path.name for path in project.runtime.rglob("*.py")],
    "hash seed": lambda: hash("bundle"),
    "workers": lambda: len(os.sched_getaffinity(0)),
    "place": lambda: root,
}
notices, found = stage.NOTICES, {}
for name, leak in leaks.items():
    stage.NOTICES = notices + str(leak())
    stage.bundle(project)
    found[name] = hashlib.sha256(project.bundle_zip.read_bytes()).hexdigest()
print(json.dumps(found))
"""


def build(project: Project, umask: int, processors: int, order: str, **environment: str) -> dict[str, str]:
    """Return the digests of a bundle, sound and with leaks, built in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(project.root), str(umask), str(processors), order]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    finished = subprocess.run(
        command, env=surroundings, cwd=project.root.parent, check=True, capture_output=True, text=True
    )
    digests: dict[str, str] = json.loads(finished.stdout)
    return digests


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot take processors from a process")
def test_the_same_input_gives_the_same_bytes_whatever_the_surroundings(tmp_path: Path) -> None:
    original, copied = write_project(tmp_path / "project"), Project(tmp_path / "elsewhere" / "other")
    for path in sorted(original.root.rglob("*"), reverse=True):
        if path.is_file():
            copy = copied.root / path.relative_to(original.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o600)
            os.utime(copy, (1_000_000_000, 1_000_000_000))
    n_processors = len(os.sched_getaffinity(0))
    first = build(original, 0o022, n_processors, "forwards", TZ="UTC", PYTHONHASHSEED="1")
    surroundings = {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    second = build(copied, 0o077, 1, "backwards", **surroundings)
    assert first["nothing"] == second["nothing"]
    differing = {name for name in first if first[name] != second[name]}
    # The negative control: each of these changes the digest when it reaches the bundle.
    expected = set(first) - {"nothing"} - ({"workers"} if n_processors == 1 else set())
    assert differing == expected
