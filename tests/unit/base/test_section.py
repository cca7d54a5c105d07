"""The reader of `params.yaml`: it names every violation at once, and suggests the nearest name for a misspelt key."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.augment.params import AugmentParams
from pipeline.base.errors import ParamsError
from pipeline.base.project import Project
from pipeline.base.section import Section, params_path, read_section, validate_section
from pipeline.extract.params import ExtractParams
from pipeline.params import Params, read_params
from pipeline.split.params import SplitParams
from pipeline.tools.studies.recipe_schema import CompareSection, FigureParams
from pipeline.train.params import TrainParams
from tests.support.command import ROOT
from tests.support.params import changed, defaults, refusal


def models_in(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(inner for sub in model.__subclasses__() for inner in models_in(sub))]


def test_no_default_hides_in_the_code() -> None:
    hidden = [
        f"{model.__name__}.{name}"
        for model in models_in(Section)
        for name, field in model.model_fields.items()
        if not field.is_required() and not (issubclass(model, (FigureParams, CompareSection)) and name == "caption")
    ]  # a recipe's figure or table may do without a caption
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


@pytest.mark.parametrize(
    "changes",
    [{"train__seed": 10**30}, {"train__seed": -(10**30)}, {"train__lr": 1e300}, {"augment__seed": 2**31}],
)
def test_a_number_that_no_library_takes_is_refused(changes: dict[str, float]) -> None:
    ((key, number),) = changes.items()
    message = refusal(changed(**changes))
    assert message.startswith(f"params.yaml: {key.replace('__', '.')}: ")
    assert f"found {number!r}" in message
    assert read_params(ROOT / "params.yaml")  # the negative control


def test_an_unknown_key_is_refused_with_the_nearest_valid_name() -> None:
    params = changed(train__epoch=3)
    assert "train.epoch: unknown key; the nearest valid name is 'epochs'" in refusal(params)


def test_an_unknown_section_is_refused_with_the_nearest_valid_name() -> None:
    params = defaults()
    params["trian"] = params.pop("train")
    message = refusal(params)
    assert "trian: unknown key; the nearest valid name is 'train'" in message
    assert "train: Field required" in message


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("augment", "copies", [{"name": "miror_left"}], "copies.0.name: unknown 'miror_left'; {} 'mirror_left_right'"),
        ("train", "loss", {"name": "focl"}, "loss.name: unknown 'focl'; {} 'focal'"),
        ("train", "online", [{"name": "afine"}], "online.0.name: unknown 'afine'; {} 'affine'"),
    ],
)
def test_an_unknown_transform_or_loss_is_refused_with_the_nearest_name_alone(
    section: str, key: str, value: object, message: str
) -> None:
    refused = refusal(changed(**{f"{section}__{key}": value}))
    assert refused == f"params.yaml: {section}.{message.format('the nearest valid name is')}"


@pytest.mark.parametrize("copy", [{"degrees": 3}, "grey", None])
def test_a_copy_without_a_name_is_refused(copy: object) -> None:
    refused = refusal(changed(augment__copies=[copy]))
    assert refused.startswith(
        f"params.yaml: augment.copies.0: has no name (found {copy!r}); expected a mapping with one"
    )


def test_an_unknown_key_of_a_copy_is_refused_with_a_name_of_its_own_kind() -> None:
    params = defaults()
    params["augment"]["copies"][3]["degree"] = params["augment"]["copies"][3].pop("degrees")
    message = refusal(params)
    assert "degree: unknown key; the nearest valid name is 'degrees'" in message


def test_a_missing_value_has_no_default_to_fall_back_on() -> None:
    params = defaults()
    del params["split"]["seed"]
    assert "split.seed: Field required" in refusal(params)


@pytest.mark.parametrize("values", [None, [], "text", {"extract": None}])
def test_what_is_not_a_mapping_of_sections_is_refused(values: object) -> None:
    assert refusal(values).startswith("params.yaml: ")


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


class _Typed(Section):
    count: int
    share: float
    is_on: bool
    name: str | None
    numbers: tuple[float, ...]
    word_or_number: Literal["auto"] | float


_TYPED = {"count": 3, "share": 1, "is_on": True, "name": "7", "numbers": [1, 2.5], "word_or_number": "auto"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("count", True, "no true or false"),
        ("count", "5", "a number, without quotes"),
        ("share", False, "no true or false"),
        ("share", "0.5", "a number, without quotes"),
        ("is_on", 1, "true or false"),
        ("is_on", "yes", "true or false, without quotes"),
        ("name", b"hallo", "a plain value"),
        ("numbers", [1, "2"], "a number, without quotes"),
        ("numbers", {1.0, 2.0}, "a plain value"),
        ("word_or_number", True, "no true or false"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_converted(key: str, value: object, expected: str) -> None:
    assert validate_section(Path("params.yaml"), _Typed, _TYPED, "some").count == 3  # the negative control
    with pytest.raises(ParamsError, match=rf"params.yaml: some.{key}: found .*; expected {expected}"):
        validate_section(Path("params.yaml"), _Typed, {**_TYPED, key: value}, "some")
