"""params.yaml: its own values hold, every violation is named at once, and a misspelt key meets its neighbour."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from pipeline.augment.params import AugmentParams, Copy
from pipeline.base.errors import ParamsError
from pipeline.base.project import Project
from pipeline.base.section import Section, params_path, read_section
from pipeline.extract.params import ExtractParams
from pipeline.params import Params, read_params, validate_params
from pipeline.split.params import SplitParams
from pipeline.train.params import TrainParams
from tests.support.command import ROOT

PLACE = Path("params.yaml")


def defaults() -> Any:
    return YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def changed(**values: Any) -> Any:
    """The defaults with values set: `split__ratio=…` for split.ratio."""
    params = defaults()
    for name, value in values.items():
        section, key = name.split("__")
        params[section][key] = value
    return params


def refusal(params: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        validate_params(params, PLACE)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def models_in(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(found for sub in model.__subclasses__() for found in models_in(sub))]


def test_the_defaults_hold_together() -> None:
    params = read_params(ROOT / "params.yaml")
    assert [type(section).__name__ for _, section in params] == [f"{name.title()}Params" for name in defaults()]
    assert [copy.name for copy in params.augment.copies] == [
        "mirror_left_right",
        "mirror_top_bottom",
        "rotate_90",
        "affine",
    ]


def test_no_default_hides_in_the_code() -> None:
    hidden = [
        f"{model.__name__}.{name}"
        for model in models_in(Section)
        for name, field in model.model_fields.items()
        if not field.is_required()
    ]
    assert hidden == []


def test_a_section_is_frozen() -> None:
    params = read_section(ROOT / "params.yaml", "train", TrainParams)
    with pytest.raises(ValidationError, match="frozen"):
        params.epochs = 3


def test_a_section_is_read_without_looking_at_the_others(project: Project) -> None:
    text = project.params_yaml.read_text(encoding="utf-8").replace("epochs: ", "epochs: -")
    project.params_yaml.write_text(text, encoding="utf-8")
    assert read_section(project.params_yaml, "split", SplitParams).ratio == "8:2"
    with pytest.raises(ParamsError, match=r"train\.epochs"):
        read_section(project.params_yaml, "train", TrainParams)


def test_all_violations_are_in_one_message() -> None:
    message = refusal(changed(train__epochs=0, train__lr="fast", split__val=1.5, extract__image_format="bmp"))
    for name in ("train.epochs", "train.lr", "split.val", "extract.image_format"):
        assert f"{name}: " in message
    assert "(found 'fast')" in message
    assert message.count(";") == 3


def test_an_unknown_key_meets_the_nearest_valid_name() -> None:
    params = changed(train__epoch=3)
    assert "train.epoch: unknown key; the nearest valid name is 'epochs'" in refusal(params)


def test_an_unknown_section_meets_the_nearest_valid_name() -> None:
    params = defaults()
    params["trian"] = params.pop("train")
    message = refusal(params)
    assert "trian: unknown key; the nearest valid name is 'train'" in message
    assert "train: Field required" in message


def test_an_unknown_key_of_a_copy_meets_a_name_of_its_own_kind() -> None:
    params = defaults()
    params["augment"]["copies"][3]["degree"] = params["augment"]["copies"][3].pop("degrees")
    message = refusal(params)
    assert "degree: unknown key; the nearest valid name is 'degrees'" in message


def test_an_unknown_transform_is_refused_with_those_that_there_are() -> None:
    message = refusal(changed(augment__copies=[{"name": "mirror"}]))
    assert "augment.copies.0" in message
    assert "rotate_90" in message


def documented_copies() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "augment.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    copies: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(block[1])["augment"]["copies"]
    return copies


def test_the_page_on_augmentation_shows_every_transform_as_it_may_be_written() -> None:
    documented = documented_copies()
    params = validate_params(changed(augment__copies=documented), PLACE)
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
    assert validate_params(changed(split__ratio=ratio), PLACE).split.test_share == pytest.approx(share)


@pytest.mark.parametrize("val", [0, 1, -0.1, float("nan"), "some"])
def test_val_is_a_share_or_null(val: object) -> None:
    assert "split.val" in refusal(changed(split__val=val))
    assert validate_params(changed(split__val=None), PLACE).split.val is None


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


def test_a_missing_value_has_no_default_to_fall_back_on() -> None:
    params = defaults()
    del params["split"]["seed"]
    assert "split.seed: Field required" in refusal(params)


@pytest.mark.parametrize("values", [None, [], "text", {"extract": None}])
def test_what_is_not_a_mapping_of_sections_is_refused(values: object) -> None:
    refusal(values)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="missing; run inside a project"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("data", [b"train: {epochs: ", b"\xff\xfe\x00\x01", b"a: 1\na: 2\n", b"a: 2026-02-30\n"])
def test_what_is_not_yaml_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    with pytest.raises(ParamsError, match="not valid YAML") as caught:
        read_params(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_the_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: {}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match="augment: section missing; expected seed, jpeg_quality, copies"):
        read_section(path, "augment", AugmentParams)


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("extract: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ParamsError):
        read_section(path, "extract", ExtractParams)


def test_a_project_has_its_own_params_and_a_bare_folder_the_defaults(project: Project, tmp_path: Path) -> None:
    assert params_path(project) == project.params_yaml
    assert read_params(params_path(Project(tmp_path))) == read_params(ROOT / "params.yaml")
    assert set(Params.model_fields) == set(defaults())
