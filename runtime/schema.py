"""Strict reading of JSON: every key is required, no other is accepted, every value has its type and is finite."""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runtime.system.regular_files import read_regular
from runtime.system.visible_text import visible

Kind = TypeVar("Kind")

_MAX_BYTES = 16 * 2**20  # far more than any contract has; bounds what a damaged bundle makes a device read


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Read a JSON file as the frozen dataclass `kind`.

    Raises:
        ValueError: the file is missing or unreadable, is not JSON, or does not fit. The message lacks the file's name.
    """
    return parse(kind, load_json(path))


def load_json(path: Path) -> object:
    """Read a JSON file as plain values.

    Raises:
        ValueError: the file is missing or unreadable, or is not strict JSON. The message lacks the file's name.
    """
    try:
        text = read_regular(path, _MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    try:
        values: object = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return values


def parse(kind: type[Kind], value: object) -> Kind:
    """Turn the result of `json.loads` into the frozen dataclass `kind`, checking names and types at every depth.

    A dataclass checks its own ranges in `__post_init__`, and raises ValueError.

    Raises:
        ValueError: names the first key that does not fit, what was found there and what was expected.
    """
    parsed: Kind = _parse(kind, value, "")
    return parsed


def to_json(value: Any) -> Any:
    """Turn a dataclass into plain dicts, lists and numbers, with the keys in the order of its fields."""
    return json.loads(json.dumps(dataclasses.asdict(value), allow_nan=False))


def printable(value: object, encoding: str | None, indent: int | None = 2) -> str:
    """Format JSON for an output of this encoding: everything beyond ASCII is escaped unless it is UTF-8.

    Args:
        value: plain values.
        encoding: of the output; None if it is not known.
        indent: spaces for each level; None: all in one line.
    """
    is_utf8 = encoding is not None and codecs.lookup(encoding).name == "utf-8"
    text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent, allow_nan=False)
    return "\n".join(map(visible, text.split("\n")))  # JSON itself escapes only some of the control characters


def _parse(kind: Any, value: object, key_path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _parse(arguments[0], value, key_path)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _misfit(key_path, value, " or ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        return _parse_tuple(arguments, value, key_path)
    if origin is dict:
        items = _expect(dict, value, key_path).items()
        return {key: _parse(arguments[1], item, f"{key_path}.{key}") for key, item in items}
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, key_path)
    return _parse_scalar(kind, value, key_path)


def _parse_tuple(arguments: tuple[Any, ...], value: object, key_path: str) -> tuple[Any, ...]:
    items = _expect(list, value, key_path)
    if arguments[-1] is not Ellipsis and len(items) != len(arguments):
        raise _misfit(key_path, f"{len(items)} values", f"{len(arguments)}")
    return tuple(_parse(arguments[0], item, f"{key_path}[{index}]") for index, item in enumerate(items))


def _parse_dataclass(kind: Any, value: object, key_path: str) -> Any:
    values = _expect(dict, value, key_path)
    kinds = get_type_hints(kind)
    for missing in sorted(set(kinds) - set(values)):
        raise ValueError(f"{key_path}.{missing}: missing".lstrip("."))
    for unknown in sorted(set(values) - set(kinds)):
        raise ValueError(f"{key_path}.{unknown}: unknown key; expected {', '.join(kinds)}".lstrip("."))
    parsed = {name: _parse(kinds[name], values[name], f"{key_path}.{name}") for name in kinds}
    try:
        return kind(**parsed)
    except ValueError as error:
        raise ValueError(f"{key_path}.{error}".lstrip(".")) from error


def _parse_scalar(kind: Any, value: object, key_path: str) -> Any:
    if kind is not float:
        return _expect(kind, value, key_path)
    try:
        as_float = float(value if type(value) is int else _expect(float, value, key_path))
    except OverflowError as error:
        raise _misfit(key_path, value, "a finite number") from error
    if not math.isfinite(as_float):
        raise _misfit(key_path, value, "a finite number")
    return as_float


def _expect(kind: type, value: object, key_path: str) -> Any:
    if type(value) is not kind:  # isinstance would accept true as a number
        raise _misfit(key_path, value, kind.__name__)
    return value


def _misfit(key: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{key.lstrip('.') or 'top level'}: found {str(value)[:80]!r}; expected {expected}")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values
