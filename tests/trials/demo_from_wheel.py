"""Runs `pipe demo` from the wheel, far from any clone, and the project's check for a hosted CI on what it made.

python -m tests.trials.demo_from_wheel DIR

DIR must not exist. The wheel is built and installed there, with the libraries of this Python. Ends with an assertion
where a step does not give what it should. Three planted faults must be refused by the check: another learning rate,
other code, and an edited report.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.base.files import read_json
from pipeline.base.project import Project
from tests.support.wheel_environment import WheelEnvironment, wheel_environment

_CHECK = "Refuse results of other params or other code"


def trial(folder: Path) -> None:
    folder.mkdir(parents=True)
    environment = wheel_environment(folder)
    somewhere = folder / "somewhere"
    somewhere.mkdir()
    started = time.monotonic()
    last = environment.output(somewhere, "pipe", "demo").splitlines()[-1]
    print(f"pipe demo: {time.monotonic() - started:.0f} s: {last}")
    assert "clip2edge_demo/reports/report.html; next: " in last, last
    project = Project(somewhere / "clip2edge_demo")
    _look_at(project, environment)
    print("the check of the hosted CI, in a clone of git alone:")
    _try_check(project, environment, folder)


def _look_at(project: Project, environment: WheelEnvironment) -> None:
    """The bundle passed, the checkpoint names the code, and a second `dvc repro` does nothing."""
    assert read_json(project.parity_json)["passed"] is True
    provenance = read_json(project.train_reports / "provenance.json")
    locked = YAML(typ="safe").load(project.toolchain_lock)
    assert provenance["toolchain"] == locked["train"]
    started = time.monotonic()
    said = environment.output(project.root, "python", "-m", "dvc", "repro")
    assert "Data and pipelines are up to date" in said, said
    print(f"a second dvc repro: {time.monotonic() - started:.1f} s, nothing ran")
    environment.output(project.root, "git", "add", "--all")
    environment.output(project.root, "git", "commit", "--quiet", "-m", "The demo")
    tracked = environment.output(project.root, "git", "ls-files").split()
    assert not [name for name in tracked if name.startswith(("data/raw/", "data/frames", "models/", "dist/"))], tracked


def _try_check(project: Project, environment: WheelEnvironment, folder: Path) -> None:
    """The check passes on what was committed, and refuses each planted fault."""
    clone = folder / "clone"
    environment.output(folder, "git", "clone", "--quiet", str(project.root), str(clone))
    assert _checked(clone, environment) == 0
    print("  as it was committed: passes")
    for name, path, old, new in (
        ("another learning rate", "params.yaml", r"\n  lr: 0\.001", "\n  lr: 0.002"),
        ("other code", "toolchain.lock", r'\ntrain: "..', '\ntrain: "zz'),
        ("an edited report", "reports/evaluate.json", r'"n_frames": ', '"n_frames": 1'),
    ):
        before = (clone / path).read_text(encoding="utf-8")
        after = re.sub(old, new, before, count=1)
        assert after != before, name
        (clone / path).write_text(after, encoding="utf-8")
        assert _checked(clone, environment) == 1, name
        (clone / path).write_text(before, encoding="utf-8")
        print(f"  {name}: refused")
    assert _checked(clone, environment) == 0


def _checked(clone: Path, environment: WheelEnvironment) -> int:
    """The exit code of the step of the workflow, as GitHub runs it."""
    workflow = YAML(typ="safe").load(clone / ".github" / "workflows" / "project.yml")
    (script,) = [step["run"] for step in workflow["jobs"]["check"]["steps"] if step.get("name") == _CHECK]
    # The environment has no program `dvc`, since the libraries are another environment's.
    function = 'dvc() { python -m dvc "$@"; }\n'
    return environment.run(clone, "bash", "--noprofile", "-eo", "pipefail", "-c", function + script).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    trial(folder)
    shutil.rmtree(folder)
