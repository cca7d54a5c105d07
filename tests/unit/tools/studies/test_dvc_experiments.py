"""An experiment counts only with the reports that its own stages wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.studies.dvc_experiments import list_experiments, source_digests
from pipeline.tools.studies.study import without_kept_places
from tests.support.compared_runs import reports
from tests.support.experiment_project import experiment_project, plant_experiment, run
from tests.support.small_project import set_params


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return experiment_project(tmp_path / "project")


def test_params_that_the_stages_did_not_run_with_are_not_counted(project: Project) -> None:
    files = reports({})
    plant_experiment(project, "tiny-b", files, lr=0.2)
    first = list_experiments(project)["tiny-b"]
    lock = first.text(project.dvc_lock)
    assert lock is not None
    assert first.fault() is None
    plant_experiment(project, "tiny-b", files, lr=0.3)
    second = list_experiments(project)["tiny-b"]
    run(project.root, "git", "checkout", "--quiet", "--detach", second.commit)
    (project.root / "dvc.lock").write_text(lock, encoding="utf-8")
    run(project.root, "git", "commit", "--quiet", "--all", "-m", "the lock of another")
    run(project.root, "git", "update-ref", second.ref, "HEAD")
    assert list_experiments(project)["tiny-b"].fault() == "its stages did not run with its train"


def test_a_report_with_nan_is_refused(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}, top1=float("nan")), lr=0.2)
    experiment = list_experiments(project)["tiny-b"]
    with pytest.raises(DataError, match=r"tiny-b: reports/evaluate\.json: not valid JSON \(NaN is not JSON\)"):
        experiment.json(project.evaluate_json)


def test_kept_places_count_as_data_of_a_run_that_may_have_used_them_alone(project: Project) -> None:
    sources = {"data/raw": "a", "data/split.keep.csv": "b"}
    plant_experiment(project, "uses", reports({}))
    assert without_kept_places(sources, list_experiments(project)["uses"]) == sources
    set_params(project, split={"keep": False})
    run(project.root, "git", "commit", "--quiet", "--all", "-m", "dealt anew")
    plant_experiment(project, "leaves", reports({}))
    assert without_kept_places(sources, list_experiments(project)["leaves"]) == {"data/raw": "a"}


def test_the_digests_of_toolchain_lock_stand_for_the_code_of_a_project_without_it() -> None:
    def of_run(digest: str) -> dict[str, str]:
        lock = {"toolchain.lock": {"train": digest}, "params.yaml": {"train": {"lr": 0.1}}}
        outs = [{"path": "models/checkpoint.pt", "md5": "a"}]
        train = {"params": lock, "deps": [{"path": "data/raw", "md5": "b"}], "outs": outs}
        evaluate = {
            "deps": [{"path": "models/checkpoint.pt", "md5": "a"}],
            "params": {"toolchain.lock": {"evaluate": "c"}},
        }
        return source_digests({"train": train, "evaluate": evaluate})

    assert of_run("1") == {"data/raw": "b", "toolchain.lock": "evaluate c\ntrain 1"}
    assert of_run("1") != of_run("2")
    assert source_digests({"train": {"deps": [{"path": "pipeline/train", "md5": "d"}]}}) == {"pipeline/train": "d"}
