"""Values of JSON reports that know where they were read: on the page each carries the pointer to its origin.

`{{ evaluate.top1 | percent }}` becomes `<span data-json="reports/evaluate.json#/top1">86.5%</span>`, so that a reader,
or a test, can look up every number of the page. Pointers are those of RFC 6901.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

UNKNOWN = "not known"

_SPAN = Markup('<span data-json="{}">{}</span>')


class JsonValue:
    """A value of a JSON file with its pointer: it is used like the plain value, and is escaped in HTML."""

    def __init__(self, value: Any, pointer: str) -> None:
        self._value = value
        self._pointer = pointer  # the file, #, and the JSON pointer in it

    def __getitem__(self, key: Any) -> Any:
        """A part by its key or position; a list also has slices.

        Raises:
            KeyError, IndexError, TypeError: there is no such part; a strict template refuses it.
        """
        plain_key = plain(key)
        if isinstance(plain_key, slice):
            return [self[position] for position in range(len(self._value))[plain_key]]
        step = str(plain_key).replace("~", "~0").replace("/", "~1")
        return JsonValue(self._value[plain_key], f"{self._pointer}/{step}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not isinstance(self._value, dict) or name not in self._value:
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[Any]:
        """The parts of a list, or the keys of a mapping, which are plain texts."""
        return iter(self._value) if isinstance(self._value, dict) else iter(self[:])

    def items(self) -> list[tuple[str, Any]]:
        """Keys and parts of a mapping."""
        return [(key, self[key]) for key in self._value]

    def __contains__(self, key: object) -> bool:
        return plain(key) in self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return bool(self._value == plain(other))

    def __hash__(self) -> int:
        return hash(self._pointer)

    def __str__(self) -> str:
        return _text(self._value)

    def __html__(self) -> Markup:
        return render(self, _text)


def plain(value: Any) -> Any:
    """The value without its pointer; a plain value is returned as it is."""
    return value._value if isinstance(value, JsonValue) else value


def render(value: JsonValue, form: Callable[[Any], str], absent: str = UNKNOWN) -> Markup:
    """Write a value as HTML that carries its pointer.

    Args:
        value: of any type.
        form: turns the plain value into text.
        absent: the text for null.
    """
    plain_value = plain(value)
    return _SPAN.format(value._pointer, absent if plain_value is None else form(plain_value))


def render_setting(value: JsonValue) -> Markup:
    """Write a value of `params.yaml`, where null is a value too."""
    return render(value, _text, "null")


def leaves(value: JsonValue) -> Iterator[JsonValue]:
    """Every plain value inside, in the order of the file; an empty list or mapping has none."""
    plain_value = plain(value)
    if isinstance(plain_value, (dict, list)):
        for key in plain_value if isinstance(plain_value, dict) else range(len(plain_value)):
            yield from leaves(value[key])
    else:
        yield value


def dotted_path(value: JsonValue) -> str:
    """Where the value stands in its file: the keys with dots between them."""
    return value._pointer.split("#/", 1)[1].replace("/", ".").replace("~1", "/").replace("~0", "~")


FORMS: dict[str, Callable[[Any], str]] = {
    "percent": lambda value: f"{value:.1%}",
    "megabytes": lambda value: f"{value / 1e6:.1f} MB",
    "milliseconds": lambda value: f"{value:.1f} ms",
    "decimals": lambda value: f"{value:.3f}",
    "scientific": lambda value: f"{value:.2e}",
}


def _text(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
