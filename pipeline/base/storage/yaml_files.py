"""Read YAML that a person wrote: plain values, and no more of them than the text has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.errors import ParamsError, one_line
from runtime.system.regular_files import open_regular

MOST_BYTES = 1 << 18  # of a file; the largest of ours has 20 kB
MOST_LEVELS = 40  # of nesting; ours have 5
MOST_PARTS = 20_000  # values, keys, and begins and ends of lists; they are read in a second or two


def read_yaml(path: Path) -> Any:
    """Parse a YAML file into plain values.

    An alias (`*name`) is refused, since a few lines of aliases to aliases stand for gigabytes of values.

    Raises:
        FileNotFoundError: there is no such file.
        ParamsError: the file is too large, not UTF-8 or not YAML, has an alias or too many values, or is nested too
            deeply.
    """
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ParamsError(f"{path}: found more than {MOST_BYTES} bytes; expected a short file of parameters")
    try:
        return _parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not valid YAML ({error})") from error


def _parse(text: str, name: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        _check_events(text, name)
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # Not YAMLError: a date that does not exist, or a tag that does not fit its value, such as !!bool maybe.
        raise ParamsError(f"{name}: not valid YAML ({one_line(error)})") from error


def _check_events(text: str, name: str) -> None:
    """Refuse aliases, deep nesting and too many values, before any value is built."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    level = 0
    for number, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
        if number > MOST_PARTS:
            raise ParamsError(f"{name}: found more than {MOST_PARTS:,} values; expected a short file of parameters")
        if isinstance(event, AliasEvent):
            line = event.start_mark.line + 1
            raise ParamsError(f"{name}:{line}: found the alias *{event.anchor}; expected its values, written out")
        level += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if level > MOST_LEVELS:
            line = event.start_mark.line + 1
            raise ParamsError(f"{name}:{line}: found more than {MOST_LEVELS} levels; expected flatter values")
