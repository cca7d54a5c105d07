"""The first weeks of a project, as a person types them, far from any clone: start, grow, correct."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.base import manifest
from pipeline.base.files import read_json
from pipeline.base.project import Project
from tests.support.media import write_clip
from tests.support.small_project import set_params
from tests.support.wheel_environment import WheelEnvironment, wheel_environment

_ALIKE = {"search": False, "hash_bits": 4, "correlation": 0.7}  # the clips of a class differ in length only


class Typed:
    """Runs the lines of a person in the project, and looks at what they left."""

    def __init__(self, environment: WheelEnvironment, project: Project) -> None:
        self.environment, self.project = environment, project

    def __call__(self, *lines: str) -> str:
        """Run lines of a shell that have to succeed; give the output of the last one."""
        return [self.environment.output(self.project.root, "bash", "-ec", line) for line in lines][-1]

    def places(self) -> dict[str, tuple[str, int | None]]:
        """Side and fold of each recording by its content, so that a name may change."""
        rows = manifest.read_split(self.project.split_csv)
        return {row.source_sha256: (row.split, row.fold) for row in rows}

    def labels(self) -> dict[str, str]:
        return {row.source: row.label for row in manifest.read_split(self.project.split_csv)}


def film(folder: Path, label: str, lengths: range) -> None:
    """Clips of one class; each length gives other frames."""
    for number in lengths:
        write_clip(folder / label / f"{number}.mp4", n_frames=20 + number)


def moved(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Recordings that were there before and have another place."""
    return [sha256 for sha256 in before.keys() & after.keys() if before[sha256] != after[sha256]]


@pytest.mark.trial
def test_a_project_is_started_grows_and_is_corrected(tmp_path: Path) -> None:
    environment = wheel_environment(tmp_path)
    film_folder = tmp_path / "film"
    for label, first in (("flake", 1), ("ball", 11), ("dust", 21)):
        film(film_folder, label, range(first, first + 4))
    environment.output(tmp_path, "pipe", "init", "materials")
    typed = Typed(environment, Project(tmp_path / "materials"))
    small = {"arch": "resnet18", "weights": "none"}
    set_params(typed.project, model=small, image={"size": 32}, train={"epochs": 2, "batch_size": 8})
    set_params(typed.project, extract={"frames_per_second": 4.0}, split={"near_duplicates": _ALIKE})

    said = typed(
        "pipe add ../film/flake/*.mp4 --label flake",
        "pipe add ../film/ball/*.mp4 --label ball",
        "pipe add ../film/dust/*.mp4 --label dust",
        "dvc repro",
        "git add --all && git commit --quiet --message 'The first day'",
        "pipe status",
    )
    assert "nothing: every stage has run on what is here" in said
    assert read_json(typed.project.parity_json)["passed"] is True
    assert typed.project.bundle_zip.is_file()
    first_day = typed.places()
    assert len(first_day) == 12

    film(film_folder, "flake", range(31, 34))
    film(film_folder, "ball", range(41, 43))
    typed(
        "pipe add ../film/flake/3?.mp4 --label flake",
        "pipe add ../film/ball/4?.mp4 --label ball",
        "dvc repro",
        "git add --all && git commit --quiet --message 'Five more clips'",
    )
    grown = typed.places()
    assert len(grown) == 17
    assert moved(first_day, grown) == []

    typed(
        "pipe rename dust powder",
        "pipe relabel data/raw/flake/31.mp4 --label ball",
        "pipe remove data/raw/flake/32.mp4",
        "dvc repro",
    )
    corrected = typed.places()
    assert len(corrected) == 16
    assert moved(grown, corrected) == []
    labels = typed.labels()
    assert labels["data/raw/ball/31.mp4"] == "ball"
    assert labels["data/raw/powder/21.mp4"] == "powder"
    assert not [source for source in labels if source.startswith("data/raw/dust/")]
    with typed.project.split_keep_csv.open(encoding="utf-8", newline="") as file:
        assert {row["source_sha256"] for row in csv.DictReader(file)} == grown.keys()  # the removed one may come back
    assert "up to date" in typed("dvc repro")

    # The control: dealt anew, old clips move.
    typed("pipe split --reshuffle")
    assert moved(corrected, typed.places()) != []
