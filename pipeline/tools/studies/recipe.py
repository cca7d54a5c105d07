"""Recipes: `recipes/<name>.yaml` of the project, or of the toolchain, holds the values that differ from the defaults.

`params` is common to all rows and is written into `params.yaml`; `rows` are the variants that `pipe study` runs;
`compare` says what `pipe compare` draws.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import ScalarString

from pipeline.base.errors import ParamsError, nearest
from pipeline.base.files import replacing_file
from pipeline.base.project import Project
from pipeline.base.section import validate_section
from pipeline.base.storage.packaged_files import packaged
from pipeline.base.storage.yaml_files import read_yaml
from pipeline.params import read_params, validate_params
from pipeline.tools.studies.dvc_experiments import param_value
from pipeline.tools.studies.recipe_schema import Study

_KEYS = ("params", "rows", "compare")


@dataclass(frozen=True)
class RecipeReport:
    """The params that a recipe changed."""

    name: str
    changed: tuple[str, ...]  # dotted names, such as train.epochs

    @property
    def headline(self) -> str:
        """The closing line."""
        if not self.changed:
            return f"recipe {self.name}: params.yaml already had its values"
        return f"recipe {self.name}: params.yaml now has its {', '.join(self.changed)}"


def apply_recipe(name: str, project: Project) -> RecipeReport:
    """Write the values of `recipes/<name>.yaml` into `params.yaml`. Its comments and other values stay.

    Raises:
        ParamsError: there is no such recipe, or `params.yaml` is invalid, as it is or with the recipe. Nothing has
            been written then.
    """
    path = find_recipe(name, project)
    values = read_params_of_recipe(name, project)
    read_params(project.params_yaml)
    text, changed = compose(project.params_yaml.read_text(encoding="utf-8"), [values], path)
    with replacing_file(project.params_yaml) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return RecipeReport(name, tuple(changed))


def compose(text: str, layers: Iterable[Mapping[str, Any]], path: Path) -> tuple[str, list[str]]:
    """Lay values over a `params.yaml`, one layer after the other.

    Args:
        text: the whole `params.yaml`.
        layers: values by section, such as `{"train": {"lr": 0.1}}`; a later layer wins.
        path: the recipe, for the message of an error.

    Returns:
        The new text, and the dotted names of the values that changed.

    Raises:
        ParamsError: the result is invalid.
    """
    yaml = _round_trip()
    params = yaml.load(text)
    changed = _merge_all(layers, params)
    composed = io.StringIO()
    yaml.dump(params, composed)
    validate_params(YAML(typ="safe", pure=True).load(composed.getvalue()), path)
    return composed.getvalue(), changed


def differences(text: str, layers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The dotted names whose values differ between a `params.yaml`, perhaps of an older version, and the layers."""
    return _merge_all(layers, _round_trip().load(text))


def read_study(name: str, project: Project) -> Study:
    """Read a recipe with its rows and its comparison.

    Raises:
        ParamsError: there is no such recipe, it has no rows, or it has an unknown name.
    """
    path = find_recipe(name, project)
    recipe = _read_recipe(path)
    if not recipe.get("rows"):
        raise ParamsError(f"{path}: no mapping `rows:`; expected the study's variants, by name")
    study = validate_section(path, Study, {"compare": None} | recipe, "")
    if study.compare is not None:
        study.compare.check_names(list(study.rows), path)
    return study


def read_params_of_recipe(name: str, project: Project) -> dict[str, Any]:
    """The values of `recipes/<name>.yaml` that are common to its rows, by section.

    Raises:
        ParamsError: there is no such recipe, or it has no `params`.
    """
    return dict(_read_recipe(find_recipe(name, project))["params"])


def list_recipes(project: Project) -> list[str]:
    """The names that `apply_recipe` knows, sorted: the project's own recipes, and those of the toolchain."""
    return sorted({path.stem for folder in _folders(project) for path in folder.glob("*.yaml")})


def find_recipe(name: str, project: Project) -> Path:
    """The path of a recipe; the project's own comes before one of the same name that came with the toolchain.

    Raises:
        ParamsError: there is no such recipe.
    """
    names = list_recipes(project)
    if name in names:
        paths = (folder / f"{name}.yaml" for folder in _folders(project))
        return next(path for path in paths if path.is_file())
    raise ParamsError(
        f"{project.recipes}: no recipe {name!r}; the nearest is {nearest(name, names)!r}, all are {', '.join(names)}"
    )


def _folders(project: Project) -> tuple[Path, Path]:
    return project.recipes, packaged(project.recipes.name)


def _read_recipe(path: Path) -> dict[str, Any]:
    """The parts of a recipe, by key; `params` is there, the others may be missing."""
    recipe = read_yaml(path)
    if not isinstance(recipe, dict) or not isinstance(recipe.get("params"), dict):
        raise ParamsError(f"{path}: no mapping `params:`; expected the values that differ from params.yaml")
    for key in recipe.keys() - set(_KEYS):
        raise ParamsError(f"{path}: {key}: unknown key; the nearest valid name is {nearest(str(key), _KEYS)!r}")
    return recipe


def _round_trip() -> YAML:
    """A reader and writer that keeps the bytes of `params.yaml` wherever no value changes."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


class _Representer(RoundTripRepresenter):
    """Writes None as `null`, where ruamel leaves a gap."""


_Representer.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))


def _merge_all(layers: Iterable[Mapping[str, Any]], into: CommentedMap) -> list[str]:
    """Merge one layer after the other; give the dotted names of the values that differ in the end."""
    before = copy.deepcopy(into)
    names = [name for values in layers for name in _merge(values, into)]
    return [name for name in dict.fromkeys(names) if param_value(into, name) != param_value(before, name)]


def _merge(values: Mapping[str, Any], into: CommentedMap, prefix: str = "") -> list[str]:
    """Set values in place, so that the comments beside them stay; give the dotted names of those that changed."""
    changed = []
    for key, value in values.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, CommentedMap) and not (prefix and _is_another_kind(value, old)):
            changed += _merge(value, old, f"{prefix}{key}.")
        elif key not in into or old != value:
            changed.append(f"{prefix}{key}")
            if isinstance(value, list) and isinstance(old, CommentedSeq):
                _replace_items(old, value)
            else:
                quoted = isinstance(old, ScalarString) and isinstance(value, str)
                into[key] = type(old)(value) if quoted else _in_one_line(value)
    return changed


def _is_another_kind(value: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a mapping is of another kind than the one it replaces, so that old keys must not remain.

    This holds for another loss, another schedule, or another form of freezing.
    """
    return ("name" in value and value["name"] != old.get("name")) or not value.keys() & old.keys()


def _replace_items(sequence: CommentedSeq, items: list[Any]) -> None:
    """Replace a list's items. A blank line or comment after the last item stays after the last item."""
    after_last = sequence.ca.items.get(len(sequence) - 1)
    sequence.ca.items.clear()
    del sequence[:]
    sequence.extend(_in_one_line(item) for item in items)
    if items and after_last:
        sequence.ca.items[len(items) - 1] = after_last
    elif not items:
        sequence.fa.set_flow_style()
        _keep_after_empty(sequence, after_last)


def _keep_after_empty(sequence: CommentedSeq, after_last: list[Any] | None) -> None:
    # After `[]` ruamel writes the comment beside its key and nothing else, so the rest is appended to that comment.
    beside_key = (sequence.ca.comment or [None])[0]
    if beside_key is not None:
        rest = [token for token in (after_last or []) if token is not None] + list(sequence.ca.end)
        beside_key.value += "".join(token.value for token in rest)


def _in_one_line(value: Any) -> Any:
    """Let a mapping or a list be written in one line, such as `{name: focal, gamma: 0.25}`."""
    if isinstance(value, dict):
        value = CommentedMap({key: _in_one_line(inner) for key, inner in value.items()})
    elif isinstance(value, list):
        value = CommentedSeq([_in_one_line(inner) for inner in value])
    else:
        return value
    value.fa.set_flow_style()
    return value
