"""`dvc.yaml` says what is true of every stage: its command, its params, its inputs and outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.params import Params
from tests.house.rooms import PACKAGES, ROOT, STAGE_NAMES, House, stage_module

STAGES = House(ROOT).stages


def test_the_nine_stages_run_in_the_order_of_the_flow() -> None:
    assert tuple(STAGES) == STAGE_NAMES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_command_and_a_module_of_the_same_name(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:4] == ["python", "-m", "pipeline", stage]
    assert stage_module(stage) in House(ROOT).modules


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_its_own_params_section(stage: str) -> None:
    several = {
        "extract": ["extract", "image.sample_bits"],
        "train": ["model", "image", "train"],
        "export": ["export", "parity"],
    }
    expected = several.get(stage, [stage] if stage in Params.model_fields else [])
    assert STAGES[stage].get("params", []) == expected


def test_every_input_that_a_stage_makes_is_an_output_of_an_earlier_one() -> None:
    edited_by_hand = {"data/groups.csv", "data/split.keep.csv"}
    assert all(len((ROOT / name).read_text(encoding="utf-8").splitlines()) == 1 for name in edited_by_hand)
    drawn_when_asked_for = "reports/explain"  # by `pipe explain`; in git it is empty, since DVC wants every input there
    assert (ROOT / drawn_when_asked_for).is_dir()
    made: set[str] = {"data/raw", drawn_when_asked_for, *edited_by_hand}
    for stage in STAGES.values():
        inputs = {dep for dep in stage["deps"] if dep.split("/")[0] not in PACKAGES}
        assert inputs <= made
        made |= {out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]}


def _that_dvc_deletes(stage: dict[str, Any]) -> list[str]:
    """The outputs of a stage that DVC deletes before it runs."""
    outs = [{out: {}} if isinstance(out, str) else out for out in stage["outs"]]
    return [name for out in outs for name, options in out.items() if not options.get("persist")]


@pytest.mark.parametrize("stage", ["extract", "augment"])
def test_what_only_recordings_can_give_again_is_not_deleted_before_a_run(stage: str) -> None:
    assert _that_dvc_deletes(STAGES[stage]) == []
    planted = copy.deepcopy(STAGES[stage])
    (first,) = planted["outs"][0]
    planted["outs"][0] = first
    assert _that_dvc_deletes(planted) == [first]
