"""A name on a terminal is only a name."""

from __future__ import annotations

import json
import unicodedata

import pytest

from runtime.schema import printable
from runtime.system.visible_text import visible

NAMES = ["\x1b[2J\x1b[31mflake", "a\rb", "cat: a.jpg\n99.0%  dog", "\x9b31m", "\u202egpj.exe", "\x00", "\x7f", "\u2028"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_a_terminal_obeys_is_left(name: str) -> None:
    shown = visible(name)
    assert not any(unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"} for letter in shown)
    assert json.loads(f'"{shown}"') == name


def test_letters_of_any_script_stay() -> None:
    name = "砾石 Größe ไทย 🪨"
    assert visible(name) == name


def test_json_is_as_harmless_and_means_the_same() -> None:
    text = printable({name: name for name in NAMES}, "utf-8")
    assert json.loads(text) == {name: name for name in NAMES}
    assert not any(letter != "\n" and unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"} for letter in text)
