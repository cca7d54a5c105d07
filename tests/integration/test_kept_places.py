"""Kept places in DVC: `split` rewrites its own dep without running again, and experiments leave it alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.base import manifest
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from pipeline.tools.studies.study import study
from tests.support.experiment_project import ROOT, commit, make_repository, run, write_recipe
from tests.support.small_project import set_params, without_search

JUDGE = "import pathlib; pathlib.Path('reports/evaluate.json').write_text('{}')"
RECIPE = "params: {split: {seed: 3}}\nrows: {one: {train: {lr: 0.1}}}\n"


def frames_of(names: Iterable[str]) -> list[Row]:
    return [
        Row(f"data/frames/{source}/{number}.jpg", label, source, f"sha of {source}", source, time_seconds=float(number))
        for label in ("brick", "砾石")
        for name in names
        for source in [f"data/raw/{label}/{name}.mp4"]
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The stage `split` of `dvc.yaml`, without its code, and a stage that stands for the later ones; committed."""
    root = tmp_path_factory.mktemp("kept") / "project"
    project = Project(root)
    project.raw.mkdir(parents=True)
    (project.raw / "clip.mp4").touch()
    for folder in (project.frames, project.fingerprints, root / ".dvc"):
        folder.mkdir()
    for name in ("params.yaml", "data/groups.csv", "data/split.keep.csv", ".dvc/config"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    set_params(project, split={"near_duplicates": {"search": False, "hash_bits": 4, "correlation": 0.7}})
    stages: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stage = stages["split"]
    stage["deps"] = [dep for dep in stage["deps"] if dep.startswith("data/")]
    judge = {"cmd": f'python -c "{JUDGE}"', "deps": ["data/split.csv"], "params": ["train"]}
    judge["outs"] = [{"reports/evaluate.json": {"cache": False}}]
    YAML().dump({"stages": {"split": stage, "evaluate": judge}}, root / "dvc.yaml")
    manifest.write(frames_of("abcdef"), project.frames_csv)
    manifest.write([], project.augmented_csv)
    (root / ".gitignore").write_text("/data/raw\n/data/split.csv\n/.cache\n", encoding="utf-8")
    make_repository(root)
    return project


def repro(project: Project) -> str:
    return run(project.root, sys.executable, "-m", "dvc", "repro")


def sides(project: Project) -> dict[str, tuple[str, int | None]]:
    return {row.source: (row.split, row.fold) for row in manifest.read_split(project.split_csv)}


@pytest.fixture(autouse=True)
def _from_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_project_grows_under_dvc_and_a_study_leaves_its_places_alone(first_day: Project) -> None:
    project = first_day
    assert "Running stage 'split'" in repro(project)
    kept = project.split_keep_csv.read_text(encoding="utf-8")
    assert kept.count("\n") == 13
    assert "up to date" in repro(project)  # though the stage has written its own dep
    before = sides(project)

    manifest.write(frames_of("abcdefvwxyz"), project.frames_csv)
    assert "; 12 groups keep their places, 10 new; " in repro(project)
    grown = project.split_keep_csv.read_bytes()
    after = sides(project)
    assert {source: after[source] for source in before} == before
    assert len(after) == 22
    assert "up to date" in repro(project)
    commit(project.root)

    write_recipe(project, RECIPE)
    assert study("tiny", (), 1, project).n_run == 1
    assert project.split_keep_csv.read_bytes() == grown
    anew = sides(project)
    assert {source: anew[source] for source in before} != before
    elsewhere = Project(project.root / "elsewhere")
    manifest.write(frames_of("abcdefvwxyz"), elsewhere.frames_csv)
    manifest.write([], elsewhere.augmented_csv)
    asked = without_search(read_section(project.params_yaml, "split", SplitParams)).model_copy(update={"seed": 3})
    split(asked, elsewhere)
    assert anew == sides(elsewhere)  # by seed and ratio alone

    assert "Running stage 'split'" in repro(project)  # the project's own params again
    assert sides(project) == after
    assert project.split_keep_csv.read_bytes() == grown


def test_the_file_of_the_repository_is_empty_and_each_recipe_leaves_it_so() -> None:
    assert (ROOT / "data" / "split.keep.csv").read_text(encoding="utf-8").count("\n") == 1
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        params = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["params"]
        assert path.stem == "small" or params["split"]["keep"] is False, path.name  # small lies over others


def test_only_split_depends_on_the_kept_places() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert [name for name, stage in stages.items() if "data/split.keep.csv" in stage["deps"]] == ["split"]
