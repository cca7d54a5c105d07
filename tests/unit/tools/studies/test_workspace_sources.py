"""What the workspace holds of data and code, as an experiment made from it would say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.base.project import Project
from pipeline.tools.studies.dvc_experiments import parse_yaml, source_digests, stages_up_to_evaluate
from pipeline.tools.studies.workspace_sources import workspace_sources
from tests.support.experiment_project import experiment_project, run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of its own, whose stage `train` depends on the digest of its code; nothing has run."""
    project = experiment_project(tmp_path_factory.mktemp("sources") / "project")
    text = project.dvc_yaml.read_text(encoding="utf-8")
    digest_too = text.replace("[model, image, train]", "[model, image, train, toolchain.lock: [train]]")
    project.dvc_yaml.write_text(digest_too, encoding="utf-8")
    project.toolchain_lock.write_text('version: "1"\nextract: "aa"\ntrain: "bb"\n', encoding="utf-8")
    return project


def test_a_workspace_in_which_nothing_has_run_has_the_sources_of_a_run(project: Project) -> None:
    before = workspace_sources(project)
    run(project.root, sys.executable, "-m", "dvc", "repro", "--quiet")
    recorded = source_digests(stages_up_to_evaluate(parse_yaml(project.dvc_lock.read_text(encoding="utf-8"))))
    assert before == workspace_sources(project) == recorded
    assert sorted(recorded) == ["data/raw", "evaluate.py", "split.py", "toolchain.lock", "train.py"]
    assert recorded["toolchain.lock"] == "train bb"


@pytest.mark.parametrize("path", ["data/raw/clip.mp4", "train.py", "toolchain.lock"])
def test_a_changed_source_is_seen(project: Project, path: str) -> None:
    before, file = workspace_sources(project), project.root / path
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("bb", "cc") + "\n", encoding="utf-8")
    after = workspace_sources(project)
    file.write_text(text, encoding="utf-8")
    name = "data/raw" if path.startswith("data") else path
    assert {key for key in before if before[key] != after[key]} == {name}


def test_a_missing_source_is_no_source_of_a_run(project: Project, tmp_path: Path) -> None:
    (project.root / "split.py").rename(tmp_path / "split.py")
    assert workspace_sources(project) == {}
    (tmp_path / "split.py").rename(project.root / "split.py")
