"""docs/contracts.md lists what the files hold, and every report names the inputs that the page lists."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.params import read_params
from pipeline.train.stage import train
from tests.support.small_project import ROOT, in_folds, small_project

PAGE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text from a heading to the next one."""
    return re.split(r"^#+ ", PAGE.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def names(text: str) -> set[str]:
    """The names in backticks."""
    return set(re.findall(r"`([\w./]+)`", text))


def test_the_checkpoint_has_the_listed_keys(exported: Project) -> None:
    table = re.findall(r"^\| (`.+?`) \|", section("## The checkpoint"), re.MULTILINE)
    assert set().union(*map(names, table)) == set(torch.load(exported.checkpoint, weights_only=True))


def test_evaluates_report_has_the_listed_keys(exported: Project) -> None:
    listed = PAGE.split("It has these keys: ")[1].split("\n\n")[0]
    found = {key for key in read_json(exported.evaluate_json) if not key.endswith("_reason")}
    assert names(listed) == found - {"made_from", "wrote", "digest"}


@pytest.fixture(scope="module")
def of_folds(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after a training with folds."""
    project = small_project(tmp_path_factory.mktemp("contracts") / "project")
    in_folds(project)
    params = read_params(project.params_yaml)
    train(params.train, params.model, params.image, project)
    return project


def test_the_files_of_the_folds_have_what_is_listed(of_folds: Project) -> None:
    listed = PAGE.split("`models/folds.pt`, of the same kind")[1].split("\n\n")[0]
    value = torch.load(of_folds.fold_heads, weights_only=True)
    assert f"`format_version` {value['format_version']} and" in listed
    assert {*value, *value["heads"][0]} <= names(listed)
    with of_folds.out_of_fold_csv().open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    columns = names(listed.split("It has ")[1].split(" with nine digits")[0].replace("logit_<class>", "logit_"))
    assert columns == {re.sub("^logit_.*", "logit_", name) for name in header}


@pytest.mark.parametrize("report", ["train/provenance.json", "evaluate.json", "export.json", "parity.json"])
def test_a_report_names_the_inputs_that_are_listed(report: str, exported: Project) -> None:
    listed = _listed_inputs()[f"reports/{report}"]
    named = read_json(exported.root / "reports" / report)["made_from"]
    assert {_listed_name(path, listed) for path in named} == listed


def _listed_inputs() -> dict[str, set[str]]:
    """By report, what it is made from."""
    listed, before = dict[str, set[str]](), set[str]()
    rows = re.findall(r"^\| `(reports/\S+)` \| (.+?) \| .+ \|$", section("### Where a report comes from"), re.MULTILINE)
    for report, made_from in rows:
        before = names(made_from) | (before if made_from.startswith("the same") else set())
        listed[report] = before
    return listed


def _listed_name(path: str, listed: set[str]) -> str:
    """The name in the table for a file: its own, or that of its folder."""
    return next((name for name in listed if path == name or (name.endswith("/") and path.startswith(name))), path)


def test_what_is_compared_here_is_found(tmp_path: Path) -> None:
    assert names("`a_b`, `c/d.json` and e") == {"a_b", "c/d.json"}
    assert _listed_name("models/onnx/core.onnx", {"models/onnx/", "models/folds.pt"}) == "models/onnx/"
    assert _listed_name("models/other.pt", {"models/onnx/"}) == "models/other.pt"  # a file that is not listed
    assert len(_listed_inputs()) >= 6
