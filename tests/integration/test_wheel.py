"""The wheel in an environment of its own, far from any clone: recipes, a project, a stage by DVC, an upgrade."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.house.rooms import ROOT
from tests.support.media import write_photo
from tests.support.wheel_environment import WheelEnvironment, wheel_environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> WheelEnvironment:
    return wheel_environment(tmp_path_factory.mktemp("wheel"))


@contextmanager
def edited(path: Path) -> Iterator[None]:
    """Add a comment to a file for the time of the block."""
    before = path.read_bytes()
    path.write_bytes(before + b"\n# another version\n")
    try:
        yield
    finally:
        path.write_bytes(before)


def test_recipes_and_defaults_are_there_outside_any_clone(wheel: WheelEnvironment, tmp_path: Path) -> None:
    assert wheel.output(tmp_path, "pipe", "recipe").split() == sorted(p.stem for p in (ROOT / "recipes").glob("*.yaml"))
    finished = wheel.run(tmp_path, "pipe", "study", "graphite")
    assert finished.returncode == 1
    assert "no git repository; experiments need one" in finished.stderr  # the recipe itself was read
    assert list(tmp_path.iterdir()) == []


def test_a_project_lives_without_a_clone(wheel: WheelEnvironment, tmp_path: Path) -> None:
    said = wheel.output(tmp_path, "pipe", "init", "materials")
    assert said.splitlines()[-1].endswith("next: pipe add VIDEOS --label CLASS, in materials")
    project = tmp_path / "materials"
    for number, label in enumerate(("flake", "spherical")):
        write_photo(project / "data" / "raw" / label / "photo.png", number)
    assert _ran(wheel.output(project, "python", "-m", "dvc", "repro", "extract")) == ["extract"]
    assert (project / "data" / "frames.csv").is_file()
    lock = project / "toolchain.lock"
    text = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(r"(?m)^version: .*$", "version: 9.9.9", text), encoding="utf-8")
    assert "9.9.9" in lock.read_text(encoding="utf-8")
    # The version alone runs nothing.
    assert _ran(wheel.output(project, "python", "-m", "dvc", "repro", "extract")) == []
    lock.write_text(text, encoding="utf-8")
    stage = wheel.packages / "pipeline" / "extract" / "stage.py"
    assert stage.is_file()
    with edited(stage):
        refused = wheel.run(project, "pipe", "extract")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "toolchain.lock: extract: found clip2edge" in refused.stderr
        upgraded = wheel.output(project, "pipe", "upgrade")
        assert "extract changed: 9 stages (extract, augment, " in upgraded
        assert _ran(wheel.output(project, "python", "-m", "dvc", "repro", "extract")) == ["extract"]


def _ran(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def test_code_of_one_checkout_inside_another_says_so_once(wheel: WheelEnvironment, tmp_path: Path) -> None:
    (tmp_path / "pipeline" / "cli").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    finished = wheel.run(tmp_path, "pipe", "augment")
    lines = [line for line in finished.stderr.splitlines() if line.startswith("warning: ")]
    assert lines == [
        f"warning: {wheel.packages} is the code that runs, not this checkout; `python -m pipeline` runs its own"
    ]
    (tmp_path / "dvc.yaml").unlink()  # no checkout
    assert "warning" not in wheel.run(tmp_path, "pipe", "augment").stderr
