"""Which stages one run serves for all rows of a study."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.tools.studies.shared_stages import shared_stages
from tests.support.command import ROOT


def params_of(**values: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, changed in values.items():
        params[section].update(changed)
    return params


@pytest.fixture(scope="module")
def chain() -> dict[str, Any]:
    stages: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")
    return stages


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"train": {"lr": 0.5}}, ["extract", "augment", "split"]),
        ({"evaluate": {"bins": 3}}, ["extract", "augment", "split", "train"]),
        ({"split": {"seed": 5}}, ["extract", "augment"]),
        ({"augment": {"seed": 5}}, ["extract"]),
        ({"extract": {"jpeg_quality": 5}}, []),
        ({}, ["extract", "augment", "split", "train", "evaluate"]),
    ],
)
def test_a_stage_is_shared_where_no_row_changes_it_nor_what_it_waits_for(
    chain: dict[str, Any], other: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    assert shared_stages(chain, [params_of(), params_of(), params_of(**other)]) == expected


def test_a_template_of_several_stages_is_not_shared() -> None:
    train = {"cmd": "train", "params": ["train"], "deps": ["data.csv"], "outs": ["a.pt"]}
    evaluate = {"cmd": "evaluate", "deps": ["a.pt", "other.csv"]}
    stages = {"many": {"foreach": [1, 2], "do": {"cmd": "x", "outs": ["data.csv"]}}, "train": train}
    assert shared_stages({"stages": {**stages, "evaluate": evaluate}}, [params_of()]) == ["train", "evaluate"]
    assert shared_stages({}, [params_of()]) == []
