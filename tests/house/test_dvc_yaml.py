"""`dvc.yaml` says what is true: every stage lists the code that it runs, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rooms import ROOT, STAGE_NAMES, module_of_stage, modules, needed_by
from ruamel.yaml import YAML

from pipeline.params import Params

# The door and the package marks dispatch; they are no part of a stage's result.
NOT_LISTED = {name for name in modules() if name.startswith("pipeline.cli.")} | {"pipeline.__main__"}
STAGES: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def _code(deps: list[str]) -> set[str]:
    return {Path(dep).with_suffix("").as_posix().replace("/", ".") for dep in deps if dep.endswith(".py")}


def test_the_nine_stages_run_in_the_order_of_the_flow() -> None:
    assert tuple(STAGES) == STAGE_NAMES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_command_and_a_module_of_the_same_name(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:4] == ["python", "-m", "pipeline", stage]
    assert module_of_stage(stage).split(".")[1] == stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_code_that_it_imports(stage: str) -> None:
    reads_params = needed_by("pipeline.base.section") if "params" in STAGES[stage] else set()
    needed = (needed_by(module_of_stage(stage)) | reads_params) - NOT_LISTED
    needed = {name for name in needed if not name.endswith(".__init__")}
    if "runtime" in STAGES[stage]["deps"]:
        needed = {name for name in needed if not name.startswith("runtime.")}
    assert _code(STAGES[stage]["deps"]) == needed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_its_own_params_section(stage: str) -> None:
    several = {"train": ["model", "image", "train"], "export": ["export", "parity"]}
    expected = several.get(stage, [stage] if stage in Params.model_fields else [])
    assert STAGES[stage].get("params", []) == expected


def test_every_input_that_a_stage_makes_is_an_output_of_an_earlier_one() -> None:
    edited_by_hand = {"data/groups.csv", "data/split.keep.csv"}
    assert all(len((ROOT / name).read_text(encoding="utf-8").splitlines()) == 1 for name in edited_by_hand)
    drawn_when_asked_for = "reports/explain"  # by `pipe explain`; in git it is empty, since DVC wants every input there
    assert (ROOT / drawn_when_asked_for).is_dir()
    made: set[str] = {"data/raw", "runtime", drawn_when_asked_for, *edited_by_hand}
    for stage in STAGES.values():
        inputs = {dep for dep in stage["deps"] if not dep.endswith((".py", ".j2", ".md"))}
        assert inputs <= made
        made |= {out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]}
