"""`pipe predict` names the model that answers, and an old graph of another model does not answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.tools.predict.model import name_exported_model
from pipeline.tools.predict.predict import open_classifier
from tests.support.compared_runs import reports
from tests.support.experiment_project import make_repository, plant_experiment
from tests.support.tiny_bundle import CHECKPOINT_SHA256, ROOT, provenance_json, renew, write_json, write_project

SHORT = CHECKPOINT_SHA256[:8]


@pytest.fixture
def exported(tmp_path: Path) -> Project:
    """A project whose graphs are of its checkpoint, a ResNet-18."""
    project = write_project(tmp_path / "project")
    provenance = read_json(provenance_json(project)) | {"params": {"model": {"arch": "resnet18"}}}
    write_json(provenance_json(project), provenance)
    renew(project)
    return project


def plant_study(project: Project) -> None:
    """Put the project into git, with an experiment that judged its checkpoint and one that judged another."""
    shutil.copy(ROOT / "params.yaml", project.root)
    make_repository(project.root)
    plant_experiment(project, "roads-ResNet-18", reports({}, checkpoint_sha256=CHECKPOINT_SHA256))
    plant_experiment(project, "roads-ResNet-50", reports({}, checkpoint_sha256="f" * 64), lr=0.2)


def test_the_model_is_named_by_architecture_experiment_and_checkpoint(exported: Project) -> None:
    assert name_exported_model(exported) == f"resnet18 (checkpoint {SHORT})"
    plant_study(exported)
    assert name_exported_model(exported) == f"resnet18 (experiment roads-ResNet-18, checkpoint {SHORT})"
    with open_classifier(exported, None) as named:
        assert named.headline == f"answered by the graph fp32 of {named.model}"
        assert named.model == f"resnet18 (experiment roads-ResNet-18, checkpoint {SHORT})"


def test_after_a_study_the_old_graph_does_not_answer_and_a_line_names_both_models(exported: Project) -> None:
    plant_study(exported)
    exported.checkpoint.write_bytes(b"the last row of a study")
    with pytest.raises(DataError) as caught, open_classifier(exported, None):
        pass
    message = str(caught.value)
    assert (
        f"found graphs of resnet18 (experiment roads-ResNet-18, checkpoint {SHORT}); no graph is exported of" in message
    )
    assert "run `pipe export` and `pipe parity`, or name a bundle with --bundle" in message
    assert "\n" not in message


@pytest.mark.parametrize("spoil", ["no report", "of another contract", "of an earlier version"])
def test_a_graph_that_no_report_tells_of_answers_and_is_called_so(exported: Project, spoil: str) -> None:
    report = read_json(exported.export_json)
    if spoil == "no report":
        exported.export_json.unlink()
    elif spoil == "of another contract":
        exported.contract_json.write_text(exported.contract_json.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    else:
        exported.export_json.write_text(json.dumps({"search": report["search"]}), encoding="utf-8")
    exported.checkpoint.write_bytes(b"another one")
    assert name_exported_model(exported) == "a checkpoint that reports/export.json does not name"


@pytest.mark.parametrize("value", [[1], "a", 3, {"models/contract.json": 1}])
@pytest.mark.parametrize("key", ["wrote", "made_from"])
def test_hashes_that_are_none_name_no_checkpoint(exported: Project, key: str, value: object) -> None:
    write_json(exported.export_json, read_json(exported.export_json) | {key: value})
    assert name_exported_model(exported) == "a checkpoint that reports/export.json does not name"


@pytest.mark.parametrize(
    "spoilt", [{"params": [1]}, {"params": {"model": "a"}}, {"params": None}, {"wrote": [1]}, {"wrote": "a"}]
)
def test_a_provenance_without_its_params_or_hashes_names_no_architecture(
    exported: Project, spoilt: dict[str, object]
) -> None:
    path = provenance_json(exported)
    write_json(path, read_json(path) | spoilt)
    assert name_exported_model(exported) == f"checkpoint {SHORT}"


def test_a_project_that_has_its_graphs_and_no_checkpoint_answers(exported: Project) -> None:
    exported.checkpoint.unlink()
    assert name_exported_model(exported) == f"resnet18 (checkpoint {SHORT})"
