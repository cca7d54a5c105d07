"""The one reader of `params.yaml`: every value typed, every violation named in one message.

A section is frozen and knows only itself; a stage receives the section of its name and no other.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.copies import Copy
from pipeline.errors import ParamsError
from pipeline.extraction import ExtractParams
from pipeline.files import Project
from pipeline.fitting import TrainParams
from pipeline.modelling import ImageParams, ModelParams
from pipeline.section import Section, Share
from pipeline.splitting import NearDuplicateParams, SplitCounts


class AugmentParams(Section):
    """Offline augmentation: one copy of every kept frame per entry of `copies`."""

    seed: Annotated[int, Field(ge=0)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    copies: tuple[Copy, ...]


class SplitParams(Section):
    """Which groups train, which are held out."""

    protocol: Literal["grouped", "blocks", "random", "given"]
    ratio: str
    val: Share | None
    rounding: Literal["nearest", "down"]
    counts: SplitCounts | None
    folds: Annotated[int, Field(ge=2)] | None
    fold: Annotated[int, Field(ge=0)]
    guard_seconds: Annotated[float, Field(ge=0)]
    group_pattern: str | None
    augmented_in_test: bool
    seed: Annotated[int, Field(ge=0)]
    caveat: str | None
    near_duplicates: NearDuplicateParams

    @field_validator("ratio", mode="before")
    @classmethod
    def _two_positive_numbers(cls, value: object) -> str:
        match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", str(value))
        if not match or not all(float(part) > 0 for part in match.groups()):
            raise ValueError(f'{value!r} is not a ratio; expected two positive numbers in quotes, such as "8:2"')
        return str(value)

    @field_validator("group_pattern")
    @classmethod
    def _a_regular_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _together(self) -> SplitParams:
        for wrong, problem in (
            (self.augmented_in_test and self.protocol != "random", "augmented_in_test needs protocol: random"),
            (self.counts and self.protocol not in ("grouped", "random"), "counts needs protocol: grouped or random"),
            (self.folds and self.protocol != "grouped", "folds needs protocol: grouped"),
            (self.folds and self.counts, "folds and counts exclude one another; set one to null"),
            (self.folds and self.fold >= self.folds, f"fold is {self.fold}; expected 0 to {(self.folds or 0) - 1}"),
        ):
            if wrong:
                raise ValueError(problem)
        return self

    @property
    def test_share(self) -> Fraction:
        """The test side's share of the data, in (0, 1); exact, so that rounding down is too."""
        training, test = (Fraction(part) for part in self.ratio.split(":"))
        return test / (training + test)


class EvaluateParams(Section):
    """Judging."""

    knn_neighbours: Annotated[int, Field(ge=1)]
    montage_frames: Annotated[int, Field(ge=1, le=200)]
    batch_size: Annotated[int, Field(ge=1)]


class ExportParams(Section):
    """The graphs and the contract with the device."""

    search: Literal["fast", "full"]
    calibration_frames: Annotated[int, Field(ge=1)]
    opset: Annotated[int, Field(ge=18)]
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    max_aspect: Annotated[float, Field(ge=1)]
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)]
    providers: Annotated[tuple[str, ...], Field(min_length=1)]
    allow_fallback: bool


class Fp32Gate(Section):
    """What float32 on a device may differ from float32 in torch."""

    max_logit_difference: Annotated[float, Field(gt=0)]
    flip_margin: Annotated[float, Field(gt=0)]


class Fp16Gate(Section):
    """How often half precision may answer otherwise."""

    max_flips: Share


class Int8Gate(Section):
    """How much accuracy integers may cost."""

    max_top1_drop: Share
    max_worst_class_drop: Share
    min_class_frames: Annotated[int, Field(ge=1)]


class ParityParams(Section):
    """What may differ between torch and a graph, by the graph's precision."""

    fp32: Fp32Gate
    fp16: Fp16Gate
    int8: Int8Gate
    golden_frames: Annotated[int, Field(ge=1, le=1000)]
    golden_max_side: Annotated[int, Field(ge=1)]


class Params(Section):
    """All of `params.yaml`."""

    extract: ExtractParams
    augment: AugmentParams
    split: SplitParams
    model: ModelParams
    image: ImageParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    parity: ParityParams


SectionType = TypeVar("SectionType", bound=Section)


def read_section(path: Path, name: str, section: type[SectionType]) -> SectionType:
    """Read one section and nothing else, so that a stage's result hangs on the params that DVC lists for it.

    Raises:
        ParamsError: the file is missing or not YAML, or the section breaks a rule; all violations in one message.
    """
    return validate_section(path, section, _load_yaml(path).get(name), name)


def read_params(path: Path) -> Params:
    """Read and check every section.

    Raises:
        ParamsError: as `read_section`.
    """
    return validate_params(_load_yaml(path), path)


def validate_params(values: object, path: Path) -> Params:
    """Check a whole parsed `params.yaml`; `path` is for the message.

    Raises:
        ParamsError: all violations in one message.
    """
    return validate_section(path, Params, values, "")


def params_path(project: Project) -> Path:
    """The project's `params.yaml`; outside a project the one that came with the package."""
    packaged = Path(__file__).with_name("params.yaml")  # in a wheel; in a checkout it lies beside the package
    candidates = (project.params_yaml, packaged, Path(__file__).parent.parent / "params.yaml")
    return next((path for path in candidates if path.is_file()), project.params_yaml)


def _load_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: missing; run inside a project (a clone of the repository)") from error
    except (YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that there is not
        raise ParamsError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: found {type(values).__name__}; expected sections such as `train:`")
    return values


def validate_section(path: Path, section: type[SectionType], values: object, name: str) -> SectionType:
    """Check the parsed values of one section; `path` and `name` are for the message.

    Raises:
        ParamsError: all violations in one message.
    """
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: {name}: section missing; expected {', '.join(section.model_fields)}")
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = [_explain(section, problem, name) for problem in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(problems)}") from error


def _explain(section: type[Section], problem: Any, prefix: str) -> str:
    place = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in (prefix, *place) if part)
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}" + (
            f" (found {problem['input']!r})" if problem["type"] not in ("missing", "value_error") else ""
        )
    nearest = difflib.get_close_matches(place[-1], names_beside(section, place), n=1, cutoff=0)
    return f"{key}: unknown key; the nearest valid name is {nearest[0]!r}" if nearest else f"{key}: unknown key"


def names_beside(section: type[Section], place: list[str]) -> list[str]:
    """The valid names where a key stands: those of the model that holds it."""
    models: list[type[Section]] = [section]
    for part in place[:-1]:
        inner = [field for model in models for field in [model.model_fields.get(part)] if field is not None]
        found = [model for field in inner for model in _models_in(field.annotation)]
        models = found or [model for model in models if not part.isdigit()] or models
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
