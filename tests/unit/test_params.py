"""The whole `params.yaml`: its own values are valid, and every value out of range is refused by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from pipeline.augment.params import Copy
from pipeline.params import read_params, validate_params
from tests.support.command import ROOT
from tests.support.params import changed, defaults, refusal


def test_the_defaults_hold_together() -> None:
    params = read_params(ROOT / "params.yaml")
    assert [type(section).__name__ for _, section in params] == [f"{name.title()}Params" for name in defaults()]
    assert [copy.name for copy in params.augment.copies] == [
        "mirror_left_right",
        "mirror_top_bottom",
        "rotate_90",
        "affine",
    ]


def documented_copies() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "augment.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    copies: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(block[1])["augment"]["copies"]
    return copies


def test_the_page_on_augmentation_shows_every_transform_as_it_may_be_written() -> None:
    documented = documented_copies()
    params = validate_params(changed(augment__copies=documented), Path("params.yaml"))
    assert [copy.name for copy in params.augment.copies] == [copy["name"] for copy in documented]
    models = get_args(get_args(Copy)[0])
    assert {copy["name"] for copy in documented} == {
        name for model in models for name in get_args(model.model_fields["name"].annotation)
    }


@pytest.mark.parametrize("copy", documented_copies(), ids=lambda copy: str(copy["name"]))
def test_a_copy_needs_all_of_its_values_and_no_other(copy: dict[str, Any]) -> None:
    for name in set(copy) - {"name"}:
        rest = {key: value for key, value in copy.items() if key != name}
        assert f".{name}: Field required" in refusal(changed(augment__copies=[rest]))
    assert "strength: unknown key" in refusal(changed(augment__copies=[{**copy, "strength": 1}]))


@pytest.mark.parametrize(
    "copy",
    [
        {"name": "rotate", "degrees": 181, "fill": "reflect"},
        {"name": "rotate", "degrees": 10, "fill": "black"},
        {"name": "shear", "degrees": 90, "fill": "reflect"},
        {"name": "shift", "translate": 1, "fill": "reflect"},
        {"name": "zoom", "scale": [0, 1], "fill": "reflect"},
        {"name": "zoom", "scale": [1], "fill": "reflect"},
        {"name": "crop", "area": [0.5, 1.1]},
        {"name": "crop", "area": [0, 1]},
        {"name": "perspective", "distortion": 0.5, "fill": "reflect"},
        {"name": "brightness", "factor": [-0.1, 1]},
        {"name": "blur", "sigma_pixels": [0, 1]},
        {"name": "noise", "sigma_levels": [1, float("nan")]},
        {"name": "jpeg", "quality": [0, 50]},
    ],
    ids=str,
)
def test_a_copy_out_of_range_is_refused(copy: dict[str, Any]) -> None:
    assert "augment.copies.0" in refusal(changed(augment__copies=[copy]))


@pytest.mark.parametrize(
    "ratio", ["8:0", "0:2", "8", "8:2:1", "-8:2", "8/2", "a:b", "", 80, None, "1e3:1", "8:2 ", "inf:1"]
)
def test_a_ratio_is_two_positive_numbers(ratio: object) -> None:
    assert "split.ratio: " in refusal(changed(split__ratio=ratio))


@pytest.mark.parametrize(
    ("ratio", "share"), [("8:2", 0.2), ("9:1", 0.1), ("0.75:0.25", 0.25), ("1:1", 0.5), ("1739:178", 178 / 1917)]
)
def test_any_fractions_make_a_ratio(ratio: str, share: float) -> None:
    assert validate_params(changed(split__ratio=ratio), Path("params.yaml")).split.test_share == pytest.approx(share)


@pytest.mark.parametrize("val", [0, 1, -0.1, float("nan"), "some"])
def test_val_is_a_share_or_null(val: object) -> None:
    assert "split.val" in refusal(changed(split__val=val))
    assert validate_params(changed(split__val=None), Path("params.yaml")).split.val is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extract__frames_per_second", 0),
        ("extract__frames_per_second", float("inf")),
        ("extract__decode_timeout_seconds", 1e9),
        ("extract__decode_max_gigabytes", 1e10),
        ("extract__screening", {**defaults()["extract"]["screening"], "min_sharpness": 1.0}),
        ("extract__screening", {**defaults()["extract"]["screening"], "max_brightness": 256}),
        ("augment__jpeg_quality", 101),
        ("augment__seed", -1),
        ("model__arch", ""),
        ("model__fc_dropouts", [0.5, 1.0]),
        ("image__mean", [0.5, 0.5]),
        ("image__std", [0.5, 0.0, 0.5]),
        ("export__opset", 17),
        ("export__providers", []),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key: str, value: object) -> None:
    assert f"{key.replace('__', '.')}" in refusal(changed(**{key: value}))
