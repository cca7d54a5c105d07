"""The one reader of `params.yaml`: it checks every value's type and names every violation in one message.

A section is frozen. It lies in the room of its stage, and a stage receives its own section only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from pipeline.base.errors import ParamsError, nearest
from pipeline.base.project import Project
from pipeline.base.storage.packaged_files import packaged
from pipeline.base.storage.yaml_files import read_yaml

LARGEST_INTEGER = 2**31 - 1  # C libraries take no larger one
LARGEST_NUMBER = 1e30  # its square is still a number in float32's range of powers, and no setting comes near

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of `params.yaml`. It is frozen and refuses unknown names, and numbers that no library could take."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_types(cls, values: Any) -> Any:
        """Refuse what pydantic would turn into another type. It takes no such validator of a field that is a tag."""
        if not isinstance(values, dict):
            return values
        errors: list[InitErrorDetails] = []
        for name in (name for name in cls.model_fields if name in values):
            types = _types_in(cls.model_fields[name].annotation)
            for part in values[name] if isinstance(values[name], (tuple, list)) else (values[name],):
                if expected := _expected_instead(part, types):
                    message = ValueError(f"found {part!r}; expected {expected}")
                    errors.append(InitErrorDetails(type="value_error", loc=(name,), input=part, ctx={"error": message}))
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return values

    @field_validator("*")
    @classmethod
    def _check_range(cls, value: Any) -> Any:
        for number in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(number, int) and abs(number) > LARGEST_INTEGER:
                raise ValueError(f"found {number}; expected a whole number of at most {LARGEST_INTEGER:,}")
            if isinstance(number, float) and abs(number) > LARGEST_NUMBER:
                raise ValueError(f"found {number}; expected a number of at most {LARGEST_NUMBER:g}")
        return value


def _expected_instead(value: object, types: frozenset[type]) -> str:
    """Say what is expected in place of a value that pydantic would turn into another type; empty where it would not."""
    if isinstance(value, bool):
        return "" if bool in types else "no true or false"
    if isinstance(value, (bytes, set, frozenset)):
        return "a plain value"
    if isinstance(value, (int, float)):
        return "true or false" if bool in types and not types & {int, float} else ""
    if isinstance(value, str) and str not in types and _looks_like_another_type(value):
        return "true or false, without quotes" if bool in types else "a number, without quotes"
    return ""


def _looks_like_another_type(text: str) -> bool:
    if text.strip().lower() in ("y", "yes", "t", "true", "on", "n", "no", "f", "false", "off"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _types_in(annotation: object) -> frozenset[type]:
    """The types of single values that an annotation names, inside unions, lists and literals too."""
    parts = getattr(annotation, "__args__", ())
    if get_origin(annotation) is Literal:
        return frozenset(map(type, parts))
    own = {annotation} if isinstance(annotation, type) else set()
    return frozenset(own).union(*map(_types_in, parts))


SectionType = TypeVar("SectionType", bound=Section)


def read_section(path: Path, name: str, section: type[SectionType]) -> SectionType:
    """Read one section and nothing else, so that a stage depends only on the params that DVC lists for it.

    Args:
        path: a `params.yaml`.
        name: the section's name in the file, such as `train`.
        section: the section's type.

    Raises:
        ParamsError: the file is missing or not YAML, or the section breaks a rule. One message has all violations.
    """
    return validate_section(path, section, load_yaml(path).get(name), name)


def params_path(project: Project) -> Path:
    """The path of the project's `params.yaml`; outside a project, of the one that came with the package."""
    # Not by `is_file`: whatever a person named params.yaml is read, or refused in a line that says what it is.
    return project.params_yaml if os.path.lexists(project.params_yaml) else packaged(project.params_yaml.name)


def load_yaml(path: Path) -> dict[str, Any]:
    """Parse a `params.yaml` without checking its values.

    Raises:
        ParamsError: the file is missing, is not the YAML that `read_yaml` takes, or is not a mapping.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: missing; run inside a project; `pipe init DIR` makes one") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: found {type(values).__name__}; expected sections such as `train:`")
    return values


def validate_section(path: Path, section: type[SectionType], values: object, name: str) -> SectionType:
    """Check the parsed values of one section.

    Args:
        path: the file that the values came from, for the message.
        section: the section's type.
        values: the parsed values; anything but a mapping is refused.
        name: the section's name in the file, for the message; empty for the whole file.

    Raises:
        ParamsError: one message has all violations.
    """
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: {name}: section missing; expected {', '.join(section.model_fields)}")
    try:
        return section.model_validate(values)
    except ValidationError as error:
        messages = [_violation_message(section, violation, name) for violation in error.errors()]
        raise ParamsError(f"{path}: {'; '.join(messages)}") from error


def _violation_message(section: type[Section], violation: Any, prefix: str) -> str:
    key_parts = [str(part) for part in violation["loc"]]
    key = ".".join(part for part in (prefix, *key_parts) if part)
    if violation["type"] == "union_tag_invalid":
        tag, expected = violation["ctx"]["tag"], re.findall(r"'([^']*)'", violation["ctx"]["expected_tags"])
        return f"{key}.name: unknown {tag!r}; the nearest valid name is {nearest(tag, expected)!r}"
    if violation["type"] in ("union_tag_not_found", "model_attributes_type"):
        return f"{key}: has no name (found {violation['input']!r}); expected a mapping with one, such as {{name: …}}"
    if violation["type"] != "extra_forbidden":
        value = f" (found {violation['input']!r})" if violation["type"] not in ("missing", "value_error") else ""
        return f"{key}: {violation['msg'].removeprefix('Value error, ')}{value}"
    suggestion = nearest(key_parts[-1], names_beside(section, key_parts))
    return f"{key}: unknown key" + ("" if suggestion is None else f"; the nearest valid name is {suggestion!r}")


def names_beside(section: type[Section], key_parts: list[str]) -> list[str]:
    """The names that are valid where a key stands.

    Args:
        section: the section that the key starts in.
        key_parts: the parts of the dotted key, its own name last; an index of a list is a part of digits.

    Returns:
        The fields of the model that holds the key. Where several models may stand there, the fields of all of them.
    """
    models: list[type[Section]] = [section]
    for part in key_parts[:-1]:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        inner_models = [model for field in fields for model in _models_in(field.annotation)]
        models = inner_models or [model for model in models if not part.isdigit()] or models
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


Degrees = Annotated[float, Field(ge=0, le=180)]
ShearDegrees = Annotated[float, Field(ge=0, lt=90)]
Translate = Annotated[float, Field(ge=0, lt=1)]

Scales = tuple[Positive, Positive]
SampleBits = Annotated[int, Field(ge=9, le=16)]
Area = Annotated[float, Field(gt=0, le=1)]
