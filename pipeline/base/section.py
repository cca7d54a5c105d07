"""The one reader of `params.yaml`: every value typed, every violation named in one message.

A section is frozen and knows only itself; each lies in the room of its stage. A stage receives its own section alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import pipeline
from pipeline.base.errors import ParamsError, nearest
from pipeline.base.project import Project

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of `params.yaml`: frozen, strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def read_section(path: Path, name: str, section: type[SectionType]) -> SectionType:
    """Read one section and nothing else, so that a stage depends only on the params that DVC lists for it.

    Raises:
        ParamsError: the file is missing or not YAML, or the section breaks a rule; all violations in one message.
    """
    return validate_section(path, section, _load_yaml(path).get(name), name)


def params_path(project: Project) -> Path:
    """The project's `params.yaml`; outside a project the one that came with the package."""
    package = Path(pipeline.__file__).parent
    # In a wheel it lies in the package, in a checkout beside it.
    candidates = (project.params_yaml, package / "params.yaml", package.parent / "params.yaml")
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
    known = names_beside(section, place)
    return f"{key}: unknown key" + (f"; the nearest valid name is {nearest(place[-1], known)!r}" if known else "")


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


Degrees = Annotated[float, Field(ge=0, le=180)]
ShearDegrees = Annotated[float, Field(ge=0, lt=90)]
Translate = Annotated[float, Field(ge=0, lt=1)]

Scales = tuple[Positive, Positive]
Area = Annotated[float, Field(gt=0, le=1)]
