"""Values of JSON reports that know their place: on a page each carries the pointer to where it was read.

`{{ evaluate.top1 | percent }}` becomes `<span data-json="reports/evaluate.json#/top1">86.5 %</span>`, so that a
reader, or a test, can find every shown number again. Pointers are RFC 6901.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

UNKNOWN = "not known"

_SPAN = Markup('<span data-json="{}">{}</span>')


class Pointed:
    """A value of a JSON file, of which parts can be asked as of the value itself; shown, it is escaped."""

    def __init__(self, value: Any, pointer: str) -> None:
        self._value = value
        self._pointer = pointer  # the file, #, and the JSON pointer in it

    def __getitem__(self, key: Any) -> Any:
        """A part by key or position; of a list a slice too.

        Raises:
            KeyError, IndexError, TypeError: there is none; a strict template refuses it.
        """
        plain = plain_of(key)
        if isinstance(plain, slice):
            return [self[place] for place in range(len(self._value))[plain]]
        step = str(plain).replace("~", "~0").replace("/", "~1")
        return Pointed(self._value[plain], f"{self._pointer}/{step}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not isinstance(self._value, dict) or name not in self._value:
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[Any]:
        """The parts of a list; of a mapping its keys, which are no values."""
        return iter(self._value) if isinstance(self._value, dict) else iter(self[:])

    def items(self) -> list[tuple[str, Any]]:
        """Keys and parts of a mapping."""
        return [(key, self[key]) for key in self._value]

    def __contains__(self, key: object) -> bool:
        return plain_of(key) in self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return bool(self._value == plain_of(other))

    def __hash__(self) -> int:
        return hash(self._pointer)

    def __str__(self) -> str:
        return _text(self._value)

    def __html__(self) -> Markup:
        return shown(self, _text)


def plain_of(value: Any) -> Any:
    """The value itself."""
    return value._value if isinstance(value, Pointed) else value


def shown(value: Pointed, form: Callable[[Any], str], absent: str = UNKNOWN) -> Markup:
    """A value in a form of its own, with its pointer; null is said in words."""
    plain = plain_of(value)
    return _SPAN.format(value._pointer, absent if plain is None else form(plain))


def setting(value: Pointed) -> Markup:
    """A value of `params.yaml`, of which null is one."""
    return shown(value, _text, "null")


def leaves(value: Pointed) -> Iterator[Pointed]:
    """Every plain value below, in the order of the file; an empty list or mapping has none."""
    plain = plain_of(value)
    if isinstance(plain, (dict, list)):
        for key in plain if isinstance(plain, dict) else range(len(plain)):
            yield from leaves(value[key])
    else:
        yield value


def place_of(value: Pointed) -> str:
    """Where it stands in its file, with dots."""
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
