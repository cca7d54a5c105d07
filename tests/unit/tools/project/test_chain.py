"""The chain of a project is that of the checkout, with a key of toolchain.lock in place of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.project.chain import code_by_stage, project_chain, stages_after, stages_of
from tests.house.rooms import PACKAGES, ROOT, STAGE_NAMES, House

CHECKOUT = House(ROOT).stages
TEXT = project_chain(Project(Path()))
CHAIN = YAML(typ="safe").load(TEXT)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_stage_differs_from_the_checkouts_in_its_command_and_its_code_alone(stage: str) -> None:
    ours, theirs = CHAIN["stages"][stage], CHECKOUT[stage]
    assert f"python -m pipeline {ours['cmd'].removeprefix('pipe ')}" == theirs["cmd"]
    assert ours["deps"] == [dep for dep in theirs["deps"] if dep.split("/")[0] not in PACKAGES]
    assert ours["params"] == [*theirs.get("params", []), {"toolchain.lock": [stage]}]
    assert ours["outs"] == theirs["outs"]
    assert set(ours) == {*theirs, "params"}


def test_the_digest_covers_the_code_that_the_checkout_lists() -> None:
    for stage, code in code_by_stage().items():
        assert set(code) == {dep for dep in CHECKOUT[stage]["deps"] if dep.split("/")[0] in PACKAGES}
        assert code
    assert tuple(code_by_stage()) == STAGE_NAMES


def test_metrics_and_plots_stay_and_the_head_speaks_of_the_project() -> None:
    checkout = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert {key: CHAIN[key] for key in ("metrics", "plots")} == {key: checkout[key] for key in ("metrics", "plots")}
    assert set(CHAIN) == set(checkout)
    assert "`pipe init` wrote this file" in TEXT.splitlines()[0]
    assert "python -m pipeline" not in TEXT
    assert "# A bad verdict is recorded and the chain goes on to the report; bundle refuses." in TEXT


def test_what_reads_a_changed_stage_runs_after_it_and_nothing_before() -> None:
    assert stages_after(frozenset({"report"}), CHAIN["stages"]) == ["report", "bundle"]
    assert stages_after(frozenset({"export"}), CHAIN["stages"]) == ["export", "parity", "report", "bundle"]
    assert stages_after(frozenset({"extract"}), CHAIN["stages"]) == list(STAGE_NAMES)
    assert stages_after(frozenset(), CHAIN["stages"]) == []


@pytest.mark.parametrize("text", ["", "stages: 3\n", "a: [\n", "- stages\n"])
def test_a_file_without_stages_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"dvc\.yaml: found no stages"):
        stages_of(text, Path("dvc.yaml"))
