"""JSON read strictly: every key asked for, no other accepted, every value of its type, no NaN and no infinity."""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

_MAX_BYTES = 16 * 2**20  # far above any contract; bounds what a damaged bundle can make a device read


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Read a JSON file as the frozen dataclass `kind`.

    Raises:
        ValueError: the file is missing or unreadable, is not JSON, or does not fit; one line without the file's name.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return parse(kind, values)


def parse(kind: type[Kind], value: object) -> Kind:
    """Turn what `json.loads` gave into the frozen dataclass `kind`, checking names and types all the way down.

    A dataclass checks its own ranges in `__post_init__`, raising ValueError.

    Raises:
        ValueError: the first place that does not fit, what was found there and what was expected.
    """
    parsed: Kind = _parse(kind, value, "")
    return parsed


def to_json(value: Any) -> Any:
    """Turn a dataclass into plain dicts, lists and numbers, keys in the order of its fields."""
    return json.loads(json.dumps(dataclasses.asdict(value), allow_nan=False))


def printable(value: object, encoding: str | None) -> str:
    """JSON for an output of this encoding: where it is not UTF-8, what a reader of JSON could not take is escaped."""
    is_utf8 = encoding is not None and codecs.lookup(encoding).name == "utf-8"
    return json.dumps(value, ensure_ascii=not is_utf8, indent=2, allow_nan=False)


def _parse(kind: Any, value: object, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _parse(arguments[0], value, place)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _misfit(place, value, " or ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        return _parse_tuple(arguments, value, place)
    if origin is dict:
        items = _expect(dict, value, place).items()
        return {key: _parse(arguments[1], item, f"{place}.{key}") for key, item in items}
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, place)
    return _parse_scalar(kind, value, place)


def _parse_tuple(arguments: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    items = _expect(list, value, place)
    if arguments[-1] is not Ellipsis and len(items) != len(arguments):
        raise _misfit(place, f"{len(items)} values", f"{len(arguments)}")
    return tuple(_parse(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(items))


def _parse_dataclass(kind: Any, value: object, place: str) -> Any:
    values = _expect(dict, value, place)
    kinds = get_type_hints(kind)
    for missing in sorted(set(kinds) - set(values)):
        raise ValueError(f"{place}.{missing}: missing".lstrip("."))
    for unknown in sorted(set(values) - set(kinds)):
        raise ValueError(f"{place}.{unknown}: unknown key; expected {', '.join(kinds)}".lstrip("."))
    parsed = {name: _parse(kinds[name], values[name], f"{place}.{name}") for name in kinds}
    try:
        return kind(**parsed)
    except ValueError as error:
        raise ValueError(f"{place}.{error}".lstrip(".")) from error


def _parse_scalar(kind: Any, value: object, place: str) -> Any:
    if kind is not float:
        return _expect(kind, value, place)
    try:
        number = float(value if type(value) is int else _expect(float, value, place))
    except OverflowError as error:
        raise _misfit(place, value, "a finite number") from error
    if not math.isfinite(number):
        raise _misfit(place, value, "a finite number")
    return number


def _expect(kind: type, value: object, place: str) -> Any:
    if type(value) is not kind:  # not isinstance: true is no number
        raise _misfit(place, value, kind.__name__)
    return value


def _misfit(place: str, found: object, expected: str) -> ValueError:
    return ValueError(f"{place.lstrip('.') or 'top level'}: found {str(found)[:80]!r}; expected {expected}")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values
